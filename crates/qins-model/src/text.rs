//! Tokenisation of texts and conversations.

use qins_quant::checkpoint::Files;

use crate::{ChatTemplate, Error, Message, Tokenizer};

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

    /// Tokenises a text.
    ///
    /// # Errors
    /// When there is no tokenizer, or it cannot represent the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.tokenizer()?.encode(text)
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

    /// Tokenises a conversation, ending with the prefix of the assistant's next turn. Without a chat template it is rendered as a plain
    /// dialogue.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), and when the template rejects the messages.
    pub fn encode_chat(&self, messages: &[Message]) -> Result<Vec<u32>, Error> {
        match &self.template {
            Some(template) => self.encode(&template.render(messages)?),
            None => {
                let turns = messages.iter().map(|m| format!("{}: {}\n\n", m.role, m.content));
                self.encode(&format!("{}assistant:", turns.collect::<String>()))
            }
        }
    }
}
