//! Chat templates: conversations rendered as text in the format a model was trained on.

use std::path::PathBuf;

use minijinja::{Environment, ErrorKind, context};
use qins_quant::checkpoint::Files;
use serde::{Deserialize, Serialize};

use crate::Error;

const CONFIG: &str = "tokenizer_config.json";

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

/// A model's chat template, from its `chat_template.jinja` or `tokenizer_config.json`.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    config: Config,
    path: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
struct Config {
    chat_template: Option<Templates>,
    bos_token: Option<Token>,
    eos_token: Option<Token>,
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

/// A special token, as a string or as an object with properties.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Added { content: String },
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Added { content: text } => text,
        }
    }
}

/// The template's name in the Jinja environment.
const NAME: &str = "chat_template";

impl ChatTemplate {
    /// Reads the template of a model; `None` when it has none.
    ///
    /// # Errors
    /// When a file cannot be read, or is not a valid template.
    pub fn open(files: &Files) -> Result<Option<Self>, Error> {
        let mut config: Config = if files.contains(CONFIG) { files.read_json(CONFIG)? } else { Config::default() };
        let (file, template) = if files.contains(TEMPLATE) {
            (TEMPLATE, Some(text(files)?))
        } else {
            (CONFIG, config.chat_template.take().and_then(Templates::for_chat))
        };
        let Some(template) = template else { return Ok(None) };
        let path = files.path(file);
        let mut environment = Environment::new();
        // The same settings as in Transformers.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        // Templates are written for Jinja in Python, and call methods of Python strings.
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_template_owned(NAME, template).map_err(|e| error(&path, &e))?;
        Ok(Some(Self { environment, config, path }))
    }

    /// Renders a conversation, ending with the prefix of the assistant's next turn.
    ///
    /// # Errors
    /// When the template rejects the messages, such as a system message for a model without one.
    pub fn render(&self, messages: &[Message]) -> Result<String, Error> {
        let token = |token: &Option<Token>| token.as_ref().map(|token| token.text().to_owned());
        let rendered = self.environment.get_template(NAME).and_then(|template| {
            template.render(context! {
                messages,
                add_generation_prompt => true,
                bos_token => token(&self.config.bos_token),
                eos_token => token(&self.config.eos_token),
            })
        });
        rendered.map_err(|e| error(&self.path, &e))
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
    use std::{collections::BTreeMap, sync::Arc};

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
        let expected = r#"HI?<e>YES.<e><B><e>{"role":"user","content":"Hi?"}"#;
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
