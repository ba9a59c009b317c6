//! Conversion between text and token ids.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use qins_quant::checkpoint::Files;
use tokenizers::{AddedToken, DecoderWrapper, Encoding, Token};

use crate::{Error, TextStream, guard::guarded};

const FILE: &str = "tokenizer.json";

/// A model's `tokenizer.json`. Its settings of truncation and padding, which serve training, are not applied.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    special: HashSet<u32>,
    byte_fallback: bool,
}

impl Tokenizer {
    /// Reads a model's `tokenizer.json`.
    ///
    /// # Errors
    /// When the file is missing or invalid.
    pub fn open(files: &Files) -> Result<Self, Error> {
        let path = files.path(FILE);
        let error = |message: String| Error::Tokenizer { path: path.clone(), message };
        let bytes = files.read(FILE)?;
        let (inner, around) = guarded("tokenizer", || {
            let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(text_of)?;
            inner.with_truncation(None).map_err(text_of)?;
            inner.with_padding(None);
            // What the post-processor puts around a text, whatever the text is.
            let text = Encoding::from_tokens(vec![Token::new(u32::MAX, "a".to_owned(), (0, 1))], 0);
            let around = inner.post_process(text, None, true).map_err(text_of)?;
            Ok((inner, around))
        })
        .map_err(error)?;
        let (prefix, suffix) = match around.get_ids().iter().position(|id| *id == u32::MAX) {
            Some(at) => (around.get_ids()[..at].to_vec(), around.get_ids()[at + 1..].to_vec()),
            None => {
                return Err(error(
                    "post_processor: expected one that keeps the text, found one that drops it".to_owned(),
                ));
            }
        };
        let special = inner.get_added_tokens_decoder().iter().filter(|(_, t)| t.special).map(|(id, _)| *id).collect();
        let byte_fallback = inner.get_decoder().is_some_and(has_byte_fallback);
        Ok(Self { inner, path, prefix, suffix, special, byte_fallback })
    }

    /// The token ids of a text. Special tokens written in the text are recognised. `added` says whether those that the tokenizer's
    /// post-processor puts around a text, [`prefix`](Self::prefix) and [`suffix`](Self::suffix), are added.
    ///
    /// # Errors
    /// When the tokenizer cannot represent the text.
    pub fn encode(&self, text: &str, added: bool) -> Result<Vec<u32>, Error> {
        let encoding = guarded("tokenizer", || self.inner.encode_fast(text, added).map_err(text_of));
        Ok(encoding.map_err(|message| self.invalid(message))?.get_ids().to_vec())
    }

    /// The token ids before every text: often a beginning-of-sequence token, or none. As in Transformers 5, `tokenizer.json` decides,
    /// whatever `add_bos_token` in `tokenizer_config.json` says.
    pub fn prefix(&self) -> &[u32] {
        &self.prefix
    }

    /// The token ids after every text: with almost all language models none.
    pub fn suffix(&self) -> &[u32] {
        &self.suffix
    }

    /// The tokens that are put around a text, in words.
    pub fn added_tokens(&self) -> String {
        let names = |ids: &[u32]| {
            let names = ids.iter().map(|id| self.inner.id_to_token(*id).unwrap_or_else(|| id.to_string()));
            names.collect::<Vec<_>>().join(" ")
        };
        match (names(&self.prefix), names(&self.suffix)) {
            (before, after) if before.is_empty() && after.is_empty() => "none".to_owned(),
            (before, after) if after.is_empty() => format!("{before} before"),
            (before, after) if before.is_empty() => format!("{after} after"),
            (before, after) => format!("{before} before, {after} after"),
        }
    }

    /// The text of token ids; `special` says whether special tokens are included.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32], special: bool) -> Result<String, Error> {
        guarded("tokenizer", || self.inner.decode(ids, !special).map_err(text_of))
            .map_err(|message| self.invalid(message))
    }

    /// A decoder of the ids that follow those of a prompt, one by one; `special` says whether special tokens are included. An answer in a
    /// conversation is a text of its own, and follows no ids: `&[]`.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn stream(&self, prompt: &[u32], special: bool) -> Result<TextStream<'_>, Error> {
        TextStream::new(self, prompt, special)
    }

    /// The text that `ids` add to that of a prompt: as [`stream`](Self::stream), at once.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn continuation(&self, prompt: &[u32], ids: &[u32], special: bool) -> Result<String, Error> {
        let mut stream = self.stream(prompt, special)?;
        let text = ids.iter().map(|id| stream.push(*id)).collect::<Result<String, _>>()?;
        Ok(text + &stream.finish())
    }

    /// Whether an id has text: it is in the vocabulary, and a special token only if those are included.
    pub(crate) fn has_text(&self, id: u32, special: bool) -> bool {
        (special || !self.special.contains(&id)) && self.inner.id_to_token(id).is_some()
    }

    /// Whether an id is one byte of a character. A run of such tokens is decoded as a whole: one invalid byte changes the text of all.
    pub(crate) fn is_byte(&self, id: u32) -> bool {
        let is_byte = |token: String| token.len() == 6 && token.starts_with("<0x") && token.ends_with('>');
        self.byte_fallback && self.inner.id_to_token(id).is_some_and(is_byte)
    }

    /// The special tokens, longest text first, so that none is found inside another.
    pub(crate) fn special_tokens(&self) -> Vec<(u32, AddedToken)> {
        let all = self.inner.get_added_tokens_decoder();
        let mut special: Vec<_> = all.into_iter().filter(|(_, t)| t.special && !t.content.is_empty()).collect();
        special.sort_by(|(_, a), (_, b)| (b.content.len(), &a.content).cmp(&(a.content.len(), &b.content)));
        special
    }

    /// As this tokenizer, but the texts of special tokens are ordinary text, and `names` are read as the ids beside them.
    pub(crate) fn renamed(&self, names: &[(String, u32, AddedToken)]) -> Renamed {
        let mut inner = self.inner.clone();
        inner.set_encode_special_tokens(true);
        let tokens: Vec<AddedToken> = names
            .iter()
            .map(|(name, _, token)| AddedToken {
                content: name.clone(),
                special: false,
                normalized: false,
                ..token.clone()
            })
            .collect();
        inner.add_tokens(&tokens);
        let ids = names.iter().filter_map(|(name, id, _)| Some((inner.token_to_id(name)?, *id))).collect();
        Renamed { tokenizer: Self { inner, ..self.clone() }, ids }
    }

    pub(crate) fn invalid(&self, message: String) -> Error {
        Error::Tokenizer { path: self.path.clone(), message }
    }
}

fn text_of(error: tokenizers::Error) -> String {
    error.to_string()
}

fn has_byte_fallback(decoder: &DecoderWrapper) -> bool {
    match decoder {
        DecoderWrapper::ByteFallback(_) => true,
        DecoderWrapper::Sequence(all) => all.get_decoders().iter().any(has_byte_fallback),
        DecoderWrapper::BPE(_)
        | DecoderWrapper::ByteLevel(_)
        | DecoderWrapper::WordPiece(_)
        | DecoderWrapper::Metaspace(_)
        | DecoderWrapper::CTC(_)
        | DecoderWrapper::Replace(_)
        | DecoderWrapper::Fuse(_)
        | DecoderWrapper::Strip(_) => false,
    }
}

/// A tokenizer that knows its special tokens by other names.
pub(crate) struct Renamed {
    tokenizer: Tokenizer,
    ids: HashMap<u32, u32>,
}

impl Renamed {
    pub(crate) fn encode(&self, text: &str, added: bool) -> Result<Vec<u32>, Error> {
        let ids = self.tokenizer.encode(text, added)?;
        Ok(ids.into_iter().map(|id| self.ids.get(&id).copied().unwrap_or(id)).collect())
    }
}
