//! Chat templates, against Jinja in Python as Transformers sets it up.

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
const DIFFERENT: [(&str, &str); 7] = [
    (
        "{% macro rest(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ rest(1, 2, 3, k=4) }}",
        "macros of MiniJinja take the arguments that they name; an error, not another text",
    ),
    ("{{ 'a' < 1 }}", "MiniJinja has an order for values of all types, where Python has an error"),
    ("{{ '{!r}'.format('a') }}", "`str.format` of MiniJinja has no conversions: an error, not another text"),
    ("{{ '{:.1%}'.format(0.256) }}", "nor percentages"),
    ("{{ '{0[a]}'.format({'a': 1}) }}", "nor parts of its arguments"),
    ("{{ '\\d' }} {{ '\\101' }} {{ 'a\\\\b' }} {{ \"\\\"\" }} {{ '\\U0001f355' }}", "MiniJinja does not read `\\U`"),
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
