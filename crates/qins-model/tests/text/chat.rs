//! Chat templates, against Jinja in Python as Transformers sets it up.

use proptest::prelude::*;
use qins_model::{ChatTemplate, Message};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::tokenizers::files;

#[derive(Deserialize)]
struct Goldens {
    special: Value,
    messages: Vec<Message>,
    snippets: Vec<Snippet>,
}

#[derive(Deserialize)]
struct Snippet {
    template: String,
    text: Option<String>,
    error: Option<String>,
}

fn goldens() -> Goldens {
    serde_json::from_str(include_str!("templates/goldens.json")).unwrap()
}

/// Snippets that differ, each with the reason.
const DIFFERENT: [(&str, &str); 6] = [
    (
        "{% macro rest(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ rest(1, 2, 3, k=4) }}",
        "macros of MiniJinja take the arguments that they name; an error, not another text",
    ),
    ("{{ 'a' < 1 }}", "MiniJinja has an order for values of all types, where Python has an error"),
    ("{{ '{!r}'.format('a') }}", "`str.format` of MiniJinja has no conversions: an error, not another text"),
    ("{{ '{:.1%}'.format(0.256) }}", "nor percentages"),
    ("{{ '{0[a]}'.format({'a': 1}) }}", "nor parts of its arguments"),
    ("{{ 0 and 1 }}", "MiniJinja computes `and` of constants as a boolean; `x and 1` gives 0"),
];

#[test]
fn templates_render_as_in_python() {
    let Goldens { special, messages, snippets } = goldens();
    let mut wrong = Vec::new();
    for Snippet { template, text, error } in &snippets {
        let files = files(&[("tokenizer_config.json", special.clone()), ("chat_template.jinja", json!(template))]);
        let rendered = ChatTemplate::open(&files).unwrap().unwrap().render(&messages);
        let same = match (&rendered, text, error) {
            (Ok(rendered), Some(text), None) => rendered == text,
            (Err(_), None, Some(_)) => true,
            _ => false,
        };
        let is_known = DIFFERENT.iter().any(|(known, _)| known == template);
        if same == is_known {
            let expected = text.as_ref().or(error.as_ref());
            wrong.push(format!("{template}\n  expected {expected:?}\n  found {rendered:?}"));
        }
    }
    assert!(snippets.len() >= 140 && wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// The text that a template renders from the messages of the goldens, with these other files.
fn render(template: &str, others: &[(&str, Value)]) -> Result<String, String> {
    let files = files(&[others, &[("chat_template.jinja", json!(template))]].concat());
    let template = ChatTemplate::open(&files).map_err(|e| e.to_string())?.unwrap();
    template.render(&goldens().messages).map_err(|e| e.to_string())
}

#[test]
fn sizes_that_no_memory_has_are_errors() {
    for (template, part) in [
        ("{{ [1]|batch(9223372036854775807)|list }}", "at most 100000, found 9223372036854775807"),
        ("{{ [1]|slice(9223372036854775807)|list }}", "at most 100000"),
        ("{{ '%.70000f' % 1.5 }}", "at most 65535, found 70000"),
        ("{{ '%9223372036854775807d' % 1 }}", "at most 65535"),
        ("{{ '%(a)99999999999999999999s' % {'a': 1} }}", "at most 65535"),
        ("{{ '{:>9223372036854775807}'.format(1) }}", "at most 65535"),
        ("{{ 'b'.ljust(1048576, 'a' * 1048576) }}", "exactly one character"),
        ("{{ 'b'.center(1048577) }}", ""),
    ] {
        let error = render(template, &[]).map(|text| text.len());
        assert!(
            error.as_ref().is_err_and(|e| e.contains("chat_template") && e.contains(part)),
            "{template}: {error:?}"
        );
    }
    // Numbers that are no widths.
    assert_eq!(render("{{ '%5.2f%% 70000' % 1.5 }}", &[]).unwrap(), " 1.50% 70000");
    assert_eq!(render("{{ '{{{0:>3}}} 70000'.format(1) }}", &[]).unwrap(), "{  1} 70000");
}

#[test]
fn special_tokens_are_those_of_the_files() {
    let names = "{{ bos_token }}|{{ eos_token }}|{{ pad_token is defined }}|{{ image_token }}";
    let config = json!({ "bos_token": { "content": "<s>", "lstrip": false }, "eos_token": "</s>", "pad_token": null,
                         "extra_special_tokens": { "image_token": "<i>" } });
    assert_eq!(render(names, &[("tokenizer_config.json", config.clone())]).unwrap(), "<s>|</s>|False|<i>");
    // An older file has its say where the tokens' properties are not in the newer one.
    let map = ("special_tokens_map.json", json!({ "eos_token": { "content": "<e>" } }));
    let mut older = vec![("tokenizer_config.json", config.clone()), map];
    assert_eq!(render(names, &older).unwrap(), "<s>|<e>|False|<i>");
    older[0].1["added_tokens_decoder"] = json!({});
    assert_eq!(render(names, &older).unwrap(), "<s>|</s>|False|<i>");
    let message = render(names, &[("tokenizer_config.json", json!({ "bos_token": 5 }))]).unwrap_err();
    assert!(message.contains("tokenizer_config.json: bos_token: expected a token, found 5"), "{message}");
}

proptest! {
    /// Whatever a template is, it renders or is an error.
    #[test]
    fn templates_never_panic(parts in proptest::collection::vec(
        prop_oneof![
            prop::sample::select(vec![
                "{{", "}}", "{%", "%}", "{#", "#}", "-", "+", " ", "~", "%", "/", "//", "**", "(", ")", "[", "]", "{", "}", ",", ":",
                "'", "\"", "\\", "|", ".", "=", "==", "1", "2.5", "1e", "é", "🍕", "for x in", "if", "endif", "endfor", "set a =", "raw",
                "endraw", "generation", "endgeneration", "is", "not", "messages", "'%s'", "'{}'.format(", "tojson", "string", "|join",
                "loop.last", "macro m(a)", "endmacro", "range(3)", ".split(", ".center(9)", "\n", "\\U0001f355", "else",
            ]).prop_map(str::to_owned),
            any::<String>(),
        ], 0..24,
    )) {
        let _ = render(&parts.concat(), &[]);
        let _ = render(&format!("{{{{ {} }}}}", parts.join(" ")), &[]);
        let _ = render(&format!("{{% if {} %}}{{% endif %}}", parts.join("")), &[]);
    }
}
