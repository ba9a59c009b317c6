#!/usr/bin/env python3
"""Renders snippets of chat templates as Transformers does, for crates/qins-model/tests/text/templates/goldens.json.

  python3 -m venv VENV && VENV/bin/pip install jinja2==3.1.6
  VENV/bin/python tools/templates/make_goldens.py crates/qins-model/tests/text/templates/goldens.json

The environment is that of `transformers.utils.chat_template_utils` (5.24): an immutable sandbox, trim_blocks and lstrip_blocks, the tag
`generation`, loop controls, `tojson` as json.dumps without escapes of other characters, `raise_exception` and `strftime_now`; `tools` and
`documents` are none, and the special tokens that are set are variables. The snippets are our own.
"""
import datetime, json, sys
import jinja2, jinja2.ext, jinja2.sandbox

from snippets import SNIPPETS

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " Hi <b>\"there\"</b> é 🍕\n"},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes."},
    {"role": "user", "content": "And now?"},
]


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_rendered"), [], [], body).set_lineno(line)

    @jinja2.pass_eval_context
    def _rendered(self, context, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    result = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    result.filters["tojson"] = tojson
    result.globals["raise_exception"] = raise_exception
    result.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return result


def render(template):
    try:
        text = environment().from_string(template).render(
            messages=MESSAGES, tools=None, documents=None, add_generation_prompt=True, **SPECIAL)
        return {"template": template, "text": text}
    except Exception as e:  # of Jinja, or of Python within it
        return {"template": template, "error": f"{type(e).__name__}: {e}"}


if __name__ == "__main__":
    goldens = {
        "origin": f"tools/templates/make_goldens.py, jinja2 {jinja2.__version__}, Python {sys.version.split()[0]}",
        "special": SPECIAL, "messages": MESSAGES, "snippets": [render(s) for s in SNIPPETS],
    }
    with open(sys.argv[1], "w", encoding="utf-8") as f:
        json.dump(goldens, f, ensure_ascii=False, indent=1)
        f.write("\n")
