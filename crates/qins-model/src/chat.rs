//! Chat templates: conversations rendered as text in the format a model was trained on.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use minijinja::context;
use qins_quant::checkpoint::Files;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, jinja};

const CONFIG: &str = "tokenizer_config.json";

/// Special tokens, in older models.
const SPECIAL_TOKENS: &str = "special_tokens_map.json";

/// Newer models have their template in a file of its own, which takes precedence.
const TEMPLATE: &str = "chat_template.jinja";

/// A turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text of the turn.
    pub content: String,
}

/// A model's chat template, from its `chat_template.jinja` or `tokenizer_config.json`. What is wrong with it, and with the special tokens
/// that it may name, is an error only when messages are rendered: other text needs neither.
#[derive(Debug)]
pub struct ChatTemplate {
    source: Result<String, Invalid>,
    special: Result<BTreeMap<String, String>, Invalid>,
    path: PathBuf,
}

/// A file, and what is wrong with it.
#[derive(Clone, Debug)]
struct Invalid(PathBuf, String);

impl From<Invalid> for Error {
    fn from(Invalid(path, message): Invalid) -> Self {
        Self::Tokenizer { path, message }
    }
}

/// The special tokens that a template can name.
const SPECIAL: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Adds the special tokens that a file sets, by the names that templates know.
fn add_special(path: PathBuf, tokens: &Map<String, Value>, all: &mut BTreeMap<String, String>) -> Result<(), Invalid> {
    let named = tokens.iter().filter(|(name, _)| SPECIAL.contains(&name.as_str()));
    // Those of one model, such as `image_token`.
    let own = tokens.get("extra_special_tokens").and_then(Value::as_object);
    for (name, token) in named.chain(own.into_iter().flatten()).filter(|(_, token)| !token.is_null()) {
        // A token may have properties.
        let Some(text) = token.as_str().or_else(|| token.get("content")?.as_str()) else {
            return Err(Invalid(path, format!("{name}: expected a token, found {token}")));
        };
        all.insert(name.clone(), text.to_owned());
    }
    Ok(())
}

/// The template for conversations: the only one, or that named `default`; others are for tools and documents.
fn for_chat(path: &Path, templates: &Value) -> Option<Result<String, Invalid>> {
    let invalid = || {
        let message = format!("chat_template: expected a text, or a list of texts with names, found {templates}");
        Err(Invalid(path.to_owned(), message))
    };
    match templates {
        Value::Null => None,
        Value::String(template) => Some(Ok(template.clone())),
        Value::Array(named) => {
            let template = named.iter().find(|named| named["name"] == "default")?["template"].as_str();
            Some(template.map_or_else(invalid, |template| Ok(template.to_owned())))
        }
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => Some(invalid()),
    }
}

impl ChatTemplate {
    /// Reads the template of a model; `None` when it has none.
    ///
    /// # Errors
    /// When a file cannot be read, or is not JSON where it should be.
    pub fn open(files: &Files) -> Result<Option<Self>, Error> {
        let config: Map<String, Value> = if files.contains(CONFIG) { files.read_json(CONFIG)? } else { Map::new() };
        let (path, source) = if files.contains(TEMPLATE) {
            let path = files.path(TEMPLATE);
            let message = "chat_template: expected UTF-8, found other bytes".to_owned();
            let text = String::from_utf8(files.read(TEMPLATE)?.into_owned());
            (path.clone(), Some(text.map_err(|_| Invalid(path, message))))
        } else {
            let path = files.path(CONFIG);
            let source = config.get("chat_template").and_then(|templates| for_chat(&path, templates));
            (path, source)
        };
        let Some(source) = source else { return Ok(None) };
        let mut all = BTreeMap::new();
        let mut added = add_special(files.path(CONFIG), &config, &mut all);
        // As in Transformers 5, an older file decides where the newer one lacks the tokens' properties.
        if !config.contains_key("added_tokens_decoder") && files.contains(SPECIAL_TOKENS) {
            let older = files.read_json(SPECIAL_TOKENS)?;
            added = added.and_then(|()| add_special(files.path(SPECIAL_TOKENS), &older, &mut all));
        }
        Ok(Some(Self { source, special: added.map(|()| all), path }))
    }

    /// Renders a conversation, ending with the prefix of the assistant's next turn.
    ///
    /// # Errors
    /// When the template is invalid, or rejects the messages, such as a system message for a model without one.
    pub fn render(&self, messages: &[Message]) -> Result<String, Error> {
        let (source, special) = (self.source.as_ref(), self.special.as_ref());
        let context = context! {
            messages,
            add_generation_prompt => true,
            tools => (),
            documents => (),
            ..minijinja::Value::from_serialize(special.map_err(Clone::clone)?)
        };
        jinja::render(source.map_err(Clone::clone)?, context)
            .map_err(|e| Error::Tokenizer { path: self.path.clone(), message: format!("chat_template: {e}") })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn render(config: &str) -> Result<Option<String>, String> {
        render_files(&[(CONFIG, config)])
    }

    fn render_files(files: &[(&str, &str)]) -> Result<Option<String>, String> {
        let files: BTreeMap<_, _> =
            files.iter().map(|(name, text)| ((*name).to_owned(), Arc::from(text.as_bytes()))).collect();
        let message = |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
        let template = ChatTemplate::open(&Files::Memory(Arc::new(files))).map_err(|e| e.to_string())?;
        let messages = [message("user", "Hi?"), message("assistant", "Yes."), message("user", "<b>")];
        template.map(|t| t.render(&messages)).transpose().map_err(|e| e.to_string())
    }

    #[test]
    fn template_renders_a_conversation() {
        let config = r#"{ "eos_token": { "content": "<e>", "lstrip": false }, "bos_token": "<s>", "chat_template":
            "{{ bos_token }}{% for m in messages %}\n{{ '<' + m['role'] + '>' }}{{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}" }"#;
        // The newline after a block is trimmed, as in Transformers; nothing is escaped.
        let expected = "<s><user>Hi?<e><assistant>Yes.<e><user><b><e><a>";
        assert_eq!(render(config), Ok(Some(expected.to_owned())));
        assert_eq!(render(r#"{ "model_max_length": 5 }"#), Ok(None));
    }

    #[test]
    fn template_file_and_default_template_take_precedence() {
        let config = r#"{ "eos_token": "<e>", "chat_template": "old" }"#;
        // A method of Python strings, and a JSON filter.
        let file = "{% for m in messages %}{{ m.content.strip().upper() }}{{ eos_token }}{% endfor %}{{ messages[0] | tojson }}";
        let expected = r#"HI?<e>YES.<e><B><e>{"role": "user", "content": "Hi?"}"#;
        assert_eq!(render_files(&[(CONFIG, config), (TEMPLATE, file)]).unwrap().unwrap(), expected);
        assert_eq!(render_files(&[(TEMPLATE, "by itself")]), Ok(Some("by itself".to_owned())));
        let several =
            r#"{ "chat_template": [{ "name": "tool_use", "template": "a" }, { "name": "default", "template": "b" }] }"#;
        assert_eq!(render(several), Ok(Some("b".to_owned())));
        assert_eq!(render(r#"{ "chat_template": [{ "name": "rag", "template": "a" }] }"#), Ok(None));
    }

    #[test]
    fn template_errors_name_the_file() {
        for (template, part) in [
            (r#""{% for""#, "chat_template: "),
            (r#""{{ raise_exception('no system') }}""#, "no system"),
            ("5", "chat_template: expected a text, or a list of texts with names, found 5"),
            (r#"[{ "name": "default" }]"#, "a list of texts with names, found ["),
        ] {
            let message = render(&format!(r#"{{ "chat_template": {template} }}"#)).unwrap_err();
            assert!(message.contains(CONFIG) && message.contains(part), "{message}");
        }
    }
}
