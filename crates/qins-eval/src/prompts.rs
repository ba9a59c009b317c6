//! Prompts, and files of them.

use std::{fs, path::Path};

use qins_model::{Message, TextReader};
use serde::Deserialize;

use crate::Error;

/// A prompt, tokenised.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// What to call it.
    pub id: String,
    /// Its tokens.
    pub input_ids: Vec<u32>,
    /// Tokens to generate at most, where it says.
    pub max_new_tokens: Option<usize>,
    /// What is known to follow it greedily.
    pub expected_ids: Option<Vec<u32>>,
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

/// Reads a file of prompts, one JSON object a line: `id`, one of `prompt`, `messages` and `input_ids`, `max_new_tokens`,
/// `expected_ids`.
///
/// # Errors
/// When the file cannot be read, or a line is no prompt.
pub fn read_prompts(path: &Path, reader: &TextReader) -> Result<Vec<Prompt>, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    parse_prompts(&text, &path.display().to_string(), reader)
}

/// As [`read_prompts`], of a file's content; `name` is for messages.
///
/// # Errors
/// When a line is no prompt.
pub fn parse_prompts(text: &str, name: &str, reader: &TextReader) -> Result<Vec<Prompt>, Error> {
    let mut prompts = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = format!("{name}:{}", number + 1);
        let line: Line = serde_json::from_str(line).map_err(|e| Error::input(&place, e))?;
        let input_ids = match (line.prompt, line.messages, line.input_ids) {
            (Some(text), None, None) => reader.encode(&text).map_err(|e| Error::input(&place, e))?,
            (None, Some(messages), None) => reader.encode_chat(&messages).map_err(|e| Error::input(&place, e))?,
            (None, None, Some(ids)) => ids,
            _ => return Err(Error::input(place, "expected one of `prompt`, `messages` and `input_ids`")),
        };
        if input_ids.is_empty() {
            return Err(Error::input(place, "expected at least one token, found an empty prompt"));
        }
        let id = line.id.unwrap_or_else(|| (number + 1).to_string());
        prompts.push(Prompt { id, input_ids, max_new_tokens: line.max_new_tokens, expected_ids: line.expected_ids });
    }
    if prompts.is_empty() {
        return Err(Error::input(name, "expected a prompt a line, found none"));
    }
    Ok(prompts)
}
