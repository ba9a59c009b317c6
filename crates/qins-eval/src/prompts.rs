//! Prompts, and the JSON Lines files they are read from.

use std::{fs, path::Path};

use qins_model::{Message, TextReader};
use serde::Deserialize;

use crate::Error;

/// A tokenised prompt.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Its name in messages and reports.
    pub id: String,
    /// Its token ids; never empty when read by [`read_prompts`].
    pub input_ids: Vec<u32>,
    /// Maximum number of tokens to generate; `None` leaves it to the evaluation set.
    pub max_new_tokens: Option<usize>,
    /// Token ids that a greedy continuation must begin with, where they are known.
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

/// Reads a prompts file: JSON Lines, an object per line with exactly one of `prompt` (text), `messages` (a conversation for the
/// chat template) and `input_ids`, and optionally `id` (else the line number), `max_new_tokens` and `expected_ids`. Blank lines
/// and other fields are ignored.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read; [`Error::Input`] naming the line that is not such an object, has no token, or is a
/// text without a tokenizer to read it; [`Error::Input`] when there is no prompt at all.
pub fn read_prompts(path: &Path, reader: &TextReader) -> Result<Vec<Prompt>, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    parse_prompts(&text, &path.display().to_string(), reader)
}

/// As [`read_prompts`], from the content of a file; `name` is the file's name in messages.
///
/// # Errors
/// [`Error::Input`], as [`read_prompts`].
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
        return Err(Error::input(name, "expected a prompt per line, found none"));
    }
    Ok(prompts)
}
