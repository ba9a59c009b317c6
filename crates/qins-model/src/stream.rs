//! Text that grows token by token.

use crate::{Error, Tokenizer};

/// A decoder of token ids one by one: the pieces joined, and [`finish`](Self::finish) after the last, are what [`Tokenizer::decode`] of the
/// prompt and all ids adds to the text of the prompt.
///
/// ```
/// # use qins_model::Tokenizer;
/// # use qins_quant::checkpoint::Files;
/// # let files = Files::Directory(concat!(env!("CARGO_MANIFEST_DIR"), "/../qins/assets/atlas").into());
/// let tokenizer = Tokenizer::open(&files)?;
/// let (prompt, ids) = (tokenizer.encode("The capital", false)?, tokenizer.encode(" of France — Paris", false)?);
/// let mut stream = tokenizer.stream(&prompt, false)?;
/// let mut text = String::new();
/// for id in ids {
///     text += &stream.push(id)?;
/// }
/// text += &stream.finish();
/// assert_eq!(text, " of France — Paris");
/// # Ok::<(), qins_model::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TextStream<'t> {
    tokenizer: &'t Tokenizer,
    special: bool,
    /// The last ids. Their text depends on none before them, but for a space or a joint at its very start.
    window: Vec<u32>,
    /// The text of the window that was given out.
    given: String,
    /// The text of the window after that, which the next ids may change.
    held: String,
}

/// The longest window that replaces a longer one. One id is enough almost always: more are needed amid a character, or a row of spaces.
const LONGEST: usize = 32;

impl<'t> TextStream<'t> {
    pub(crate) fn new(tokenizer: &'t Tokenizer, prompt: &[u32], special: bool) -> Result<Self, Error> {
        let ids: Vec<u32> = prompt.iter().copied().filter(|id| tokenizer.has_text(*id, special)).collect();
        let mut stream = Self { tokenizer, special, window: Vec::new(), given: String::new(), held: String::new() };
        let window = stream.last_of(&ids)?.unwrap_or(ids);
        let text = tokenizer.decode(&window, special)?;
        let fixed = stream.fixed(&window, &text)?;
        (stream.held, stream.given) = (text[fixed..].to_owned(), text[..fixed].to_owned());
        stream.window = window;
        Ok(stream)
    }

    /// The text that an id adds; empty while a character is incomplete, or later ids may change it.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn push(&mut self, id: u32) -> Result<String, Error> {
        if !self.tokenizer.has_text(id, self.special) {
            return Ok(String::new());
        }
        self.window.push(id);
        let text = self.tokenizer.decode(&self.window, self.special)?;
        let fixed = self.fixed(&self.window, &text)?;
        // All but a decoder that changes text long decoded keep what was given out.
        let start = common_prefix(&text, &self.given);
        let piece = text[start..fixed.max(start)].to_owned();
        self.held = text[fixed.max(start)..].to_owned();
        self.given = text[..fixed.max(start)].to_owned();
        if self.held.is_empty()
            && let Some(window) = self.last_of(&self.window)?
        {
            self.given = self.tokenizer.decode(&window, self.special)?;
            self.window = window;
        }
        Ok(piece)
    }

    /// The text that is held back so far: an incomplete character (as U+FFFD), or bytes that the next one may invalidate.
    pub fn held(&self) -> &str {
        &self.held
    }

    /// The text that was held back, at the end of the ids.
    pub fn finish(self) -> String {
        self.held
    }

    /// The length of the part of the window's text that no later id changes.
    fn fixed(&self, window: &[u32], text: &str) -> Result<usize, Error> {
        let bytes = window.iter().rev().take_while(|id| self.tokenizer.is_byte(**id)).count();
        if bytes > 0 {
            let before = self.tokenizer.decode(&window[..window.len() - bytes], self.special)?;
            return Ok(common_prefix(text, &before));
        }
        // The bytes of an incomplete character are one replacement character.
        Ok(text.strip_suffix(char::REPLACEMENT_CHARACTER).unwrap_or(text).len())
    }

    /// The last few of the ids, as the window that the text of later ids depends on; `None` where it may depend on all.
    fn last_of(&self, ids: &[u32]) -> Result<Option<Vec<u32>>, Error> {
        for count in 1..ids.len().min(LONGEST) {
            let last = &ids[ids.len() - count..];
            let text = self.tokenizer.decode(last, self.special)?;
            // A window starts with a character of its own, and not amid a run of bytes.
            let starts = text.chars().next().is_some_and(|c| c != char::REPLACEMENT_CHARACTER);
            if starts && !self.tokenizer.is_byte(last[0]) {
                return Ok(Some(last.to_vec()));
            }
        }
        Ok(None)
    }
}

/// The length of the longest common prefix of two texts.
fn common_prefix(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}
