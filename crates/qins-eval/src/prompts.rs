//! Prompts, and the JSON Lines files they are read from.

use std::{collections::HashMap, path::Path};

use qins_model::{Message, ModelConfig, TextReader};
use serde::{Deserialize, de::IgnoredAny};

use crate::{Error, text_file::read_text};

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

impl Prompt {
    /// Checks that a model of this configuration can read the prompt.
    ///
    /// # Errors
    /// [`Error::Input`] when it has no token, more tokens than the context, or a token outside the vocabulary.
    pub fn check(&self, config: &ModelConfig) -> Result<(), Error> {
        let (found, limit) = (self.input_ids.len(), config.max_position_embeddings);
        let message = if found == 0 {
            Some("expected at least one token, found an empty prompt".to_owned())
        } else if found > limit {
            Some(format!("expected at most {limit} tokens, the model's context, found {found}"))
        } else {
            outside(&self.input_ids, config).or_else(|| self.expected_ids.as_ref().and_then(|ids| outside(ids, config)))
        };
        message.map_or(Ok(()), |message| Err(Error::input(format!("prompt `{}`", self.id), message)))
    }
}

fn outside(ids: &[u32], config: &ModelConfig) -> Option<String> {
    let vocabulary = config.vocab_size;
    let found = ids.iter().find(|id| **id as usize >= vocabulary)?;
    Some(format!("expected token ids below {vocabulary}, the size of the vocabulary, found {found}"))
}

/// A line of a prompts file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: Option<String>,
    prompt: Option<String>,
    messages: Option<Vec<Turn>>,
    input_ids: Option<Vec<u32>>,
    max_new_tokens: Option<usize>,
    expected_ids: Option<Vec<u32>>,
    /// For whoever reads the file.
    #[serde(rename = "category")]
    _category: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Turn {
    role: Role,
    content: String,
}

/// The roles that chat templates know. Many skip a turn of any other, so that a misspelt one would be lost.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

impl Role {
    fn name(&self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

impl From<Turn> for Message {
    fn from(Turn { role, content }: Turn) -> Self {
        Self { role: role.name().to_owned(), content }
    }
}

/// Reads a prompts file, `-` being standard input: JSON Lines in UTF-8, an object per line with exactly one of `prompt` (text),
/// `messages` (a conversation for the chat template, turns of `role` and `content`) and `input_ids`, and optionally `id` (else the
/// line number), `max_new_tokens`, `expected_ids`, and a `category`, which is not used. Blank lines are skipped.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read; [`Error::Input`] naming the line that is not such an object, has a field of another
/// name, an id that an earlier line has, or a prompt that a model of this configuration cannot read; [`Error::Input`] when there is no
/// prompt at all.
pub fn read_prompts(path: &Path, reader: &TextReader, config: &ModelConfig) -> Result<Vec<Prompt>, Error> {
    let (name, text) = read_text(path)?;
    parse_prompts(&text, &name, reader, config)
}

/// As [`read_prompts`], from the content of a file; `name` is the file's name in messages.
///
/// # Errors
/// [`Error::Input`], as [`read_prompts`].
pub fn parse_prompts(text: &str, name: &str, reader: &TextReader, config: &ModelConfig) -> Result<Vec<Prompt>, Error> {
    let (mut prompts, mut lines_of_ids) = (Vec::new(), HashMap::new());
    for (number, line) in lines(text, name) {
        let place = format!("{name}:{number}");
        let line = line?;
        let input_ids = match (line.prompt, line.messages, line.input_ids) {
            (Some(text), None, None) => reader.encode(&text).map_err(|e| Error::input(&place, e))?,
            (None, Some(turns), None) => {
                reader.encode_chat(&messages(&place, turns)?).map_err(|e| Error::input(&place, e))?
            }
            (None, None, Some(ids)) => ids,
            _ => return Err(Error::input(place, "expected one of `prompt`, `messages` and `input_ids`")),
        };
        let id = line.id.unwrap_or_else(|| number.to_string());
        if let Some(earlier) = lines_of_ids.insert(id.clone(), number) {
            return Err(Error::input(
                place,
                format!("expected an id of its own, found `{id}`, that of line {earlier}"),
            ));
        }
        let prompt = Prompt { id, input_ids, max_new_tokens: line.max_new_tokens, expected_ids: line.expected_ids };
        prompt.check(config).map_err(|e| Error::input(place, e))?;
        prompts.push(prompt);
    }
    if prompts.is_empty() {
        return Err(Error::input(name, "expected a prompt per line, found none"));
    }
    Ok(prompts)
}

/// Reads one conversation: a file as [`read_prompts`] reads, with a single line, which has `messages`.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read; [`Error::Input`] when it is not such a file.
pub fn read_conversation(path: &Path) -> Result<Vec<Message>, Error> {
    let (name, text) = read_text(path)?;
    let mut lines = lines(&text, &name);
    let Some((number, line)) = lines.next() else {
        return Err(Error::input(&name, "expected a conversation, found no line"));
    };
    let place = format!("{name}:{number}");
    let turns = match line? {
        Line { messages: Some(turns), prompt: None, input_ids: None, .. } => turns,
        Line { messages: Some(_), .. } => {
            return Err(Error::input(place, "expected `messages` alone, found another text"));
        }
        Line { messages: None, .. } => return Err(Error::input(place, "expected `messages`, found none")),
    };
    if let Some((number, _)) = lines.next() {
        return Err(Error::input(format!("{name}:{number}"), "expected one conversation, found another line"));
    }
    messages(&place, turns)
}

fn messages(place: &str, turns: Vec<Turn>) -> Result<Vec<Message>, Error> {
    if turns.is_empty() {
        return Err(Error::input(place, "expected at least one message, found none"));
    }
    Ok(turns.into_iter().map(Message::from).collect())
}

/// The objects of a file with their line numbers, blank lines left out.
fn lines<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = (usize, Result<Line, Error>)> + 'a {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(move |(index, line)| {
        let number = index + 1;
        // Serde reads an array as an object without names.
        let parsed = if line.trim_start().starts_with('{') {
            // Serde counts the lines of what it is given, which is one.
            serde_json::from_str(line).map_err(|e| e.to_string().replace(" at line 1 column ", " at column "))
        } else {
            Err("expected a JSON object on each line, found another text".to_owned())
        };
        (number, parsed.map_err(|message| Error::input(format!("{name}:{number}"), message)))
    })
}
