//! Bytes as a `tokenizer_config.json` with a chat template.

use qins_model::{Message, TextReader};

use crate::text::{TOKENIZER, files};

/// A conversation that it renders is read as tokens; a special token in a message is never one.
///
/// # Panics
/// When one is.
pub fn run(bytes: &[u8]) -> bool {
    let Ok(reader) =
        TextReader::open(&files(&[("tokenizer.json", TOKENIZER.as_bytes()), ("tokenizer_config.json", bytes)]))
    else {
        return false;
    };
    let talk = |text: &str| {
        let message = |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
        reader.encode_chat(&[message("system", "The"), message("user", text), message("assistant", "is")])
    };
    let Ok(ordinary) = talk("of") else { return false };
    // The tokenizer's one special token that no template here writes.
    if !ordinary.contains(&STOP)
        && !String::from_utf8_lossy(bytes).contains("</")
        && let Ok(ids) = talk("of</s>")
    {
        assert!(!ids.contains(&STOP), "a message wrote a special token");
    }
    true
}

/// `</s>`.
const STOP: u32 = 2;

/// Templates as models have them.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    [
        (
            "loop",
            r#"{ "bos_token": "<s>", "chat_template": "{{ bos_token }}{% for m in messages %}{{ m['role'] + ': ' + m['content'] | trim }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}" }"#,
        ),
        (
            "python",
            r#"{ "chat_template": [{ "name": "default", "template": "{%- set ns = namespace(n=0) -%}{% for m in messages if m.role != 'tool' %}{% set ns.n = ns.n + 1 %}{{ loop.index0 }}{{ m.content.strip().upper()[:5] }}{{ m | tojson(indent=2) }}{% if not loop.last %}{% continue %}{% endif %}{% endfor %}{{ '%s %d' % ('a', ns.n) }}{% generation %}{{ messages[-1].content.split('i')[0] }}{% endgeneration %}" }] }"#,
        ),
    ]
    .map(|(name, config)| (name.to_owned(), config.as_bytes().to_vec()))
    .into()
}
