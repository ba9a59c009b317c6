//! Conversations, written out as a model was trained to read them.

use std::path::PathBuf;

use minijinja::{Environment, ErrorKind, context};
use qins_quant::checkpoint::Files;
use serde::{Deserialize, Serialize};

use crate::Error;

const FILE: &str = "tokenizer_config.json";

/// A turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// A model's chat template, of its `tokenizer_config.json`.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    config: Config,
    path: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Config {
    chat_template: Option<String>,
    bos_token: Option<Token>,
    eos_token: Option<Token>,
}

/// A special token, by itself or with its properties.
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

impl ChatTemplate {
    /// Reads the template beside a model's weights, if there is one.
    ///
    /// # Errors
    /// When the file is unreadable, or the template is none.
    pub fn open(files: &Files) -> Result<Option<Self>, Error> {
        if !files.contains(FILE) {
            return Ok(None);
        }
        let mut config: Config = files.read_json(FILE)?;
        let Some(template) = config.chat_template.take() else { return Ok(None) };
        let path = files.path(FILE);
        let mut environment = Environment::new();
        // As Transformers sets up its engine.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned(FILE, template).map_err(|e| error(&path, &e))?;
        Ok(Some(Self { environment, config, path }))
    }

    /// The text of a conversation, up to where the assistant speaks next.
    ///
    /// # Errors
    /// When the template refuses these messages, such as a system's where the model knows none.
    pub fn render(&self, messages: &[Message]) -> Result<String, Error> {
        let token = |token: &Option<Token>| token.as_ref().map(|token| token.text().to_owned());
        let rendered = self.environment.get_template(FILE).and_then(|template| {
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

fn error(path: &std::path::Path, e: &minijinja::Error) -> Error {
    Error::Tokenizer { path: path.to_owned(), message: format!("chat_template: {e}") }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;

    fn render(config: &str) -> Result<Option<String>, String> {
        let files = BTreeMap::from([(FILE.to_owned(), Arc::from(config.as_bytes()))]);
        let message = |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
        let template = ChatTemplate::open(&Files::Memory(Arc::new(files))).map_err(|e| e.to_string())?;
        let messages = [message("user", "Hi?"), message("assistant", "Yes."), message("user", "<b>")];
        template.map(|t| t.render(&messages)).transpose().map_err(|e| e.to_string())
    }

    #[test]
    fn a_conversation_is_written_as_its_template_says() {
        let config = r#"{ "eos_token": { "content": "<e>", "lstrip": false }, "bos_token": "<s>", "chat_template":
            "{{ bos_token }}{% for m in messages %}\n{{ '<' + m['role'] + '>' }}{{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}" }"#;
        // The newline behind a block is not part of the text, as in Transformers; nor is anything escaped.
        let expected = "<s><user>Hi?<e><assistant>Yes.<e><user><b><e><a>";
        assert_eq!(render(config), Ok(Some(expected.to_owned())));
        assert_eq!(render(r#"{ "model_max_length": 5 }"#), Ok(None));
    }

    #[test]
    fn what_is_no_template_or_refuses_is_told_with_its_file() {
        for (template, part) in [("{% for", "chat_template: "), ("{{ raise_exception('no system') }}", "no system")] {
            let message = render(&format!(r#"{{ "chat_template": "{template}" }}"#)).unwrap_err();
            assert!(message.contains(FILE) && message.contains(part), "{message}");
        }
    }
}
