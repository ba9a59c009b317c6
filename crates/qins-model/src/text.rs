//! Tokenisation of texts and conversations.

use qins_quant::checkpoint::Files;

use crate::{ChatTemplate, Error, Message, Tokenizer, written::Written};

/// A model's tokenizer and chat template, as far as it has them.
#[derive(Debug)]
pub struct TextReader {
    /// The tokenizer; `None` when the model has none, and prompts must be token ids.
    pub tokenizer: Option<Tokenizer>,
    template: Option<ChatTemplate>,
    files: Files,
}

impl TextReader {
    /// Reads a model's tokenizer and chat template.
    ///
    /// # Errors
    /// When a file exists and cannot be read.
    pub fn open(files: &Files) -> Result<Self, Error> {
        let tokenizer = files.contains("tokenizer.json").then(|| Tokenizer::open(files)).transpose()?;
        Ok(Self { tokenizer, template: ChatTemplate::open(files)?, files: files.clone() })
    }

    /// Tokenises a text, with the special tokens that the tokenizer puts around a text. Special tokens written in the text are recognised.
    ///
    /// # Errors
    /// When there is no tokenizer, or it cannot represent the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.tokenizer()?.encode(text, true)
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// When there is none.
    pub fn tokenizer(&self) -> Result<&Tokenizer, Error> {
        self.tokenizer.as_ref().ok_or_else(|| {
            let message = "expected a tokenizer to read text with, found none".to_owned();
            Error::Tokenizer { path: self.files.path("tokenizer.json"), message }
        })
    }

    /// Whether the model has a chat template; without one, conversations are plain dialogues.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }

    /// Tokenises a conversation, ending with the prefix of the assistant's next turn. Special tokens written in a message are plain text:
    /// only the template makes control tokens, and nothing is added around what it renders. Without a chat template the conversation is
    /// rendered as a plain dialogue, and tokenised as a text.
    ///
    /// # Errors
    /// As [`encode`](Self::encode); when the template is invalid or rejects the messages; and when it reads a special token that is
    /// written in a message, so that the token cannot be plain text.
    pub fn encode_chat(&self, messages: &[Message]) -> Result<Vec<u32>, Error> {
        let tokenizer = self.tokenizer()?;
        let rendered = self.render(messages)?;
        match Written::new(tokenizer, messages, &rendered) {
            None => tokenizer.encode(&rendered, self.template.is_none()),
            Some(written) => {
                let marked = self.render(&written.marked(messages))?;
                written.encode(&marked, &rendered, self.template.is_none())
            }
        }
    }

    /// As [`encode_chat`](Self::encode_chat), but special tokens written in a message become control tokens.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), and when the template is invalid or rejects the messages.
    pub fn encode_chat_with_special_tokens(&self, messages: &[Message]) -> Result<Vec<u32>, Error> {
        self.tokenizer()?.encode(&self.render(messages)?, self.template.is_none())
    }

    fn render(&self, messages: &[Message]) -> Result<String, Error> {
        match &self.template {
            Some(template) => template.render(messages),
            None => {
                let turns = messages.iter().map(|m| format!("{}: {}\n\n", m.role, m.content));
                Ok(format!("{}assistant:", turns.collect::<String>()))
            }
        }
    }
}
