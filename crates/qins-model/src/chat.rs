//! Chat templates: conversations rendered as text in the format a model was trained on.

use std::{collections::BTreeMap, path::PathBuf};

use minijinja::context;
use qins_quant::checkpoint::Files;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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

/// A model's chat template, from its `chat_template.jinja` or `tokenizer_config.json`. It is parsed when messages are rendered.
#[derive(Debug)]
pub struct ChatTemplate {
    source: String,
    special: BTreeMap<String, String>,
    path: PathBuf,
}

/// The special tokens that a template can name.
const SPECIAL: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

#[derive(Debug, Default, Deserialize)]
struct Config {
    chat_template: Option<Templates>,
    #[serde(flatten)]
    others: serde_json::Map<String, Value>,
}

/// The special tokens that are set, by the names that templates know.
fn special(files: &Files, config: &Config) -> Result<BTreeMap<String, String>, Error> {
    let mut all = BTreeMap::new();
    let mut add = |file: &str, tokens: &serde_json::Map<String, Value>| {
        let named = tokens.iter().filter(|(name, _)| SPECIAL.contains(&name.as_str()));
        // Those of one model, such as `image_token`.
        let own = tokens.get("extra_special_tokens").and_then(Value::as_object);
        for (name, token) in named.chain(own.into_iter().flatten()).filter(|(_, token)| !token.is_null()) {
            // A token may have properties.
            let text = token.as_str().or_else(|| token.get("content")?.as_str()).ok_or_else(|| {
                let message = format!("{name}: expected a token, found {token}");
                Error::Tokenizer { path: files.path(file), message }
            })?;
            all.insert(name.clone(), text.to_owned());
        }
        Ok::<(), Error>(())
    };
    add(CONFIG, &config.others)?;
    // As in Transformers 5, an older file decides where the newer one lacks the tokens' properties.
    if !config.others.contains_key("added_tokens_decoder") && files.contains(SPECIAL_TOKENS) {
        add(SPECIAL_TOKENS, &files.read_json(SPECIAL_TOKENS)?)?;
    }
    Ok(all)
}

/// One template, or several by name.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Named(Vec<Named>),
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
    template: String,
}

impl Templates {
    /// The template for conversations, `default`; others are for tools and documents.
    fn for_chat(self) -> Option<String> {
        match self {
            Self::One(template) => Some(template),
            Self::Named(all) => all.into_iter().find(|named| named.name == "default").map(|named| named.template),
        }
    }
}

impl ChatTemplate {
    /// Reads the template of a model; `None` when it has none.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn open(files: &Files) -> Result<Option<Self>, Error> {
        let mut config: Config = if files.contains(CONFIG) { files.read_json(CONFIG)? } else { Config::default() };
        let (file, template) = if files.contains(TEMPLATE) {
            (TEMPLATE, Some(text(files)?))
        } else {
            (CONFIG, config.chat_template.take().and_then(Templates::for_chat))
        };
        let (path, special) = (files.path(file), special(files, &config)?);
        Ok(template.map(|source| Self { source, special, path }))
    }

    /// Renders a conversation, ending with the prefix of the assistant's next turn.
    ///
    /// # Errors
    /// When the template is invalid, or rejects the messages, such as a system message for a model without one.
    pub fn render(&self, messages: &[Message]) -> Result<String, Error> {
        let context = context! {
            messages,
            add_generation_prompt => true,
            tools => (),
            documents => (),
            ..minijinja::Value::from_serialize(&self.special)
        };
        jinja::render(&self.source, context).map_err(|e| error(&self.path, &e))
    }
}

fn text(files: &Files) -> Result<String, Error> {
    let bytes = files.read(TEMPLATE)?.into_owned();
    let message = "chat_template: expected UTF-8, found other bytes".to_owned();
    String::from_utf8(bytes).map_err(|_| Error::Tokenizer { path: files.path(TEMPLATE), message })
}

fn error(path: &std::path::Path, e: &minijinja::Error) -> Error {
    Error::Tokenizer { path: path.to_owned(), message: format!("chat_template: {e}") }
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
        for (template, part) in [("{% for", "chat_template: "), ("{{ raise_exception('no system') }}", "no system")] {
            let message = render(&format!(r#"{{ "chat_template": "{template}" }}"#)).unwrap_err();
            assert!(message.contains(CONFIG) && message.contains(part), "{message}");
        }
    }
}
