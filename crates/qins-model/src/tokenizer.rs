//! Conversion between text and token ids.

use std::path::PathBuf;

use qins_quant::checkpoint::Files;

use crate::Error;

const FILE: &str = "tokenizer.json";

/// A model's `tokenizer.json`.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
}

impl Tokenizer {
    /// Reads a model's `tokenizer.json`.
    ///
    /// # Errors
    /// When the file is missing or invalid.
    pub fn open(files: &Files) -> Result<Self, Error> {
        let path = files.path(FILE);
        let inner = tokenizers::Tokenizer::from_bytes(files.read(FILE)?)
            .map_err(|e| Error::Tokenizer { path: path.clone(), message: e.to_string() })?;
        Ok(Self { inner, path })
    }

    /// The token ids of a text. Special tokens in the text are recognised; none is added.
    ///
    /// # Errors
    /// When the tokenizer cannot represent the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let encoding = self.inner.encode_fast(text, false).map_err(|e| self.error(e))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of token ids; `special` says whether special tokens are included.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32], special: bool) -> Result<String, Error> {
        self.inner.decode(ids, !special).map_err(|e| self.error(e))
    }

    /// A streaming decoder without special tokens: for each id it gives the new text, or `None` while a character is incomplete.
    pub fn stream(&self) -> impl FnMut(u32) -> Result<Option<String>, Error> + '_ {
        let mut stream = self.inner.decode_stream(true);
        move |id| stream.step(id).map_err(|e| self.error(e))
    }

    fn error(&self, e: tokenizers::Error) -> Error {
        Error::Tokenizer { path: self.path.clone(), message: e.to_string() }
    }
}
