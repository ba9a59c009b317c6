//! Prompts: one on the command line, or a file of them.

use std::{error::Error, fs, path::Path};

use qins_burn::{ChatTemplate, Files, Message, Tokenizer};
use serde::Deserialize;

/// A prompt, tokenised.
#[derive(Clone, Debug)]
pub(crate) struct Prompt {
    pub(crate) id: String,
    pub(crate) input_ids: Vec<u32>,
    pub(crate) max_new_tokens: Option<usize>,
    /// What is known to follow it greedily.
    pub(crate) expected_ids: Option<Vec<u32>>,
}

/// A line of a prompts file; other fields are ignored.
#[derive(Deserialize)]
struct Line {
    id: Option<String>,
    prompt: Option<String>,
    messages: Option<Vec<Message>>,
    input_ids: Option<Vec<u32>>,
    max_new_tokens: Option<usize>,
    expected_ids: Option<Vec<u32>>,
}

/// What a model reads text with.
#[derive(Debug)]
pub(crate) struct Reader {
    /// None where the model has none: prompts are then given as ids.
    pub(crate) tokenizer: Option<Tokenizer>,
    template: Option<ChatTemplate>,
}

impl Reader {
    /// What lies beside a model's weights.
    pub(crate) fn open(files: &Files) -> Result<Self, Box<dyn Error>> {
        let tokenizer = files.contains("tokenizer.json").then(|| Tokenizer::open(files)).transpose()?;
        Ok(Self { tokenizer, template: ChatTemplate::open(files)? })
    }

    /// Tokenises a text.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>, Box<dyn Error>> {
        let missing = "expected a tokenizer.json beside the model's weights to read text with, found none";
        Ok(self.tokenizer.as_ref().ok_or(missing)?.encode(text)?)
    }

    /// Tokenises a conversation, up to where the assistant speaks. A model without a chat template is given it as a
    /// plain dialogue.
    pub(crate) fn encode_chat(&self, messages: &[Message]) -> Result<Vec<u32>, Box<dyn Error>> {
        match &self.template {
            Some(template) => self.encode(&template.render(messages)?),
            None => {
                let turns = messages.iter().map(|m| format!("{}: {}\n\n", m.role, m.content));
                self.encode(&format!("{}assistant:", turns.collect::<String>()))
            }
        }
    }
}

/// Reads a file of prompts.
pub(crate) fn read(path: &Path, reader: &Reader) -> Result<Vec<Prompt>, Box<dyn Error>> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    parse(&text, &path.display().to_string(), reader)
}

/// Parses prompts, one JSON object a line; `name` is for messages.
pub(crate) fn parse(text: &str, name: &str, reader: &Reader) -> Result<Vec<Prompt>, Box<dyn Error>> {
    let mut prompts = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = format!("{name}:{}", number + 1);
        let line: Line = serde_json::from_str(line).map_err(|e| format!("{place}: {e}"))?;
        let input_ids = match (line.prompt, line.messages, line.input_ids) {
            (Some(text), None, None) => reader.encode(&text).map_err(|e| format!("{place}: {e}"))?,
            (None, Some(messages), None) => reader.encode_chat(&messages).map_err(|e| format!("{place}: {e}"))?,
            (None, None, Some(ids)) => ids,
            _ => return Err(format!("{place}: expected one of `prompt`, `messages` and `input_ids`").into()),
        };
        if input_ids.is_empty() {
            return Err(format!("{place}: expected at least one token, found an empty prompt").into());
        }
        let id = line.id.unwrap_or_else(|| (number + 1).to_string());
        prompts.push(Prompt { id, input_ids, max_new_tokens: line.max_new_tokens, expected_ids: line.expected_ids });
    }
    if prompts.is_empty() {
        return Err(format!("{name}: expected a prompt a line, found none").into());
    }
    Ok(prompts)
}
