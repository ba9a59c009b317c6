//! Prompts: one on the command line, or a file of them.

use std::{error::Error, fs, path::Path};

use qins_burn::Tokenizer;
use serde::Deserialize;

/// A prompt, tokenised.
#[derive(Clone, Debug)]
pub(crate) struct Prompt {
    pub(crate) id: String,
    pub(crate) input_ids: Vec<u32>,
    pub(crate) max_new_tokens: Option<usize>,
}

/// A line of a prompts file; other fields are ignored.
#[derive(Deserialize)]
struct Line {
    id: Option<String>,
    prompt: Option<String>,
    input_ids: Option<Vec<u32>>,
    max_new_tokens: Option<usize>,
}

/// Reads a file of prompts.
pub(crate) fn read(path: &Path, tokenizer: Option<&Tokenizer>) -> Result<Vec<Prompt>, Box<dyn Error>> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    parse(&text, &path.display().to_string(), tokenizer)
}

/// Parses prompts, one JSON object a line; `name` is for messages.
pub(crate) fn parse(text: &str, name: &str, tokenizer: Option<&Tokenizer>) -> Result<Vec<Prompt>, Box<dyn Error>> {
    let mut prompts = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = format!("{name}:{}", number + 1);
        let line: Line = serde_json::from_str(line).map_err(|e| format!("{place}: {e}"))?;
        let input_ids = match (line.prompt, line.input_ids) {
            (Some(text), None) => encode(&text, tokenizer).map_err(|e| format!("{place}: {e}"))?,
            (None, Some(ids)) => ids,
            _ => return Err(format!("{place}: expected either `prompt` or `input_ids`").into()),
        };
        if input_ids.is_empty() {
            return Err(format!("{place}: expected at least one token, found an empty prompt").into());
        }
        let id = line.id.unwrap_or_else(|| (number + 1).to_string());
        prompts.push(Prompt { id, input_ids, max_new_tokens: line.max_new_tokens });
    }
    if prompts.is_empty() {
        return Err(format!("{name}: expected a prompt a line, found none").into());
    }
    Ok(prompts)
}

/// Tokenises a text.
pub(crate) fn encode(text: &str, tokenizer: Option<&Tokenizer>) -> Result<Vec<u32>, Box<dyn Error>> {
    let tokenizer =
        tokenizer.ok_or("expected a tokenizer.json beside the model's weights to read text with, found none")?;
    Ok(tokenizer.encode(text)?)
}
