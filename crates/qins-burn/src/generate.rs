//! Prefill, decoding and scoring of sequences.

mod together;

use std::{borrow::BorrowMut, marker::PhantomData, ops::ControlFlow};

use burn::tensor::Tensor;
use qins_model::{ModelConfig, RopeRegime, Sampler, TokenChoice};
use qins_quant::kv::Beyond;

use crate::{
    Error, KvCache,
    awake::awake,
    decoder::{CausalLm, Input, Logits},
    device,
};

pub use together::Together;

/// Tokens per prefill pass: the attention scores of a whole long prompt would take memory quadratic in its length.
const PREFILL_CHUNK: usize = 512;

/// A sequence being read by a model.
#[derive(Debug)]
pub struct Session<'m> {
    model: &'m dyn CausalLm,
    cache: KvCache,
    regime: RopeRegime,
    ids: Vec<u32>,
    piece: usize,
}

impl<'m> Session<'m> {
    /// An empty sequence; on a GPU with memory for `capacity` tokens, or for the model's context if that is less.
    pub fn new(model: &'m dyn CausalLm, capacity: usize) -> Self {
        let capacity = capacity.min(model.config().max_position_embeddings);
        Self { model, cache: model.cache(capacity), regime: RopeRegime::Short, ids: Vec::new(), piece: PREFILL_CHUNK }
    }

    /// Sets the maximum of tokens per prefill pass (default 512): fewer take less memory for attention scores.
    ///
    /// # Panics
    /// When `tokens` is 0.
    pub fn with_prefill_chunk(self, tokens: usize) -> Self {
        assert_ne!(tokens, 0, "with_prefill_chunk: expected at least 1 token, found 0");
        Self { piece: tokens, ..self }
    }

    /// Its keys and values.
    pub fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// All tokens read so far.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Reads more tokens; returns the requested logits, `[positions, vocabulary]`. Long sequences are read in chunks.
    ///
    /// When the sequence grows past the length where LongRoPE changes its frequencies, the cache is dropped and the whole
    /// sequence read again.
    ///
    /// # Errors
    /// When `ids` is empty, an id is outside the vocabulary, or the model's context is full.
    pub fn extend(&mut self, ids: &[u32], logits: Logits) -> Result<Tensor<2>, Error> {
        expect_readable(self.model.config(), self.ids.len(), ids)?;
        let n = self.take(ids);
        Ok(self.forward(n, Logits::Tail(logits.rows(ids.len()))))
    }

    /// Takes tokens that the model can read; how many of the last are to be read.
    fn take(&mut self, ids: &[u32]) -> usize {
        let read = self.ids.len();
        self.ids.extend_from_slice(ids);
        let before = std::mem::replace(&mut self.regime, self.model.regime(self.ids.len()));
        if self.regime == before || read == 0 {
            return ids.len();
        }
        self.cache.clear();
        self.ids.len()
    }

    /// As [`extend`](Self::extend), with the logits read from the device, row-major.
    ///
    /// # Errors
    /// As [`extend`](Self::extend); when a logit is NaN or infinite, or the device fails.
    pub fn read(&mut self, ids: &[u32], logits: Logits) -> Result<Vec<f32>, Error> {
        let logits = device::read(self.extend(ids, logits)?)?;
        self.finite(logits)
    }

    /// `logits`, the last of which are after the last token, if they are finite.
    fn finite(&self, logits: Vec<f32>) -> Result<Vec<f32>, Error> {
        // Without an early end, so that it vectorises.
        if logits.iter().fold(true, |all, logit| all & logit.is_finite()) {
            return Ok(logits);
        }
        Err(self.overflow(&logits))
    }

    /// The error of logits that are not finite, the last of which are after the last token.
    fn overflow(&self, logits: &[f32]) -> Error {
        let vocabulary = self.model.config().vocab_size.max(1);
        let at = logits.iter().position(|logit| !logit.is_finite()).unwrap_or(0);
        let position = self.ids.len() - logits.len() / vocabulary + at / vocabulary;
        match self.cache.beyond() {
            Some((layer, Beyond { what, most, found })) => {
                Error::KvRange { scheme: self.cache.scheme(), what, most, found, layer, position }
            }
            None => Error::NotFinite { value: logits[at], id: at % vocabulary, position },
        }
    }

    /// Reads the last `n` ids.
    fn forward(&mut self, n: usize, logits: Logits) -> Tensor<2> {
        let (model, regime, cache) = (self.model, self.regime, &mut self.cache);
        let ids = &self.ids[self.ids.len() - n..];
        let rows = logits.rows(n);
        let mut pieces = Vec::new();
        // Runs within the thread pool: handing each product over to it and waiting would cost as much time per token as
        // another block.
        awake(&model.device(), n, || {
            let mut left = n;
            for piece in ids.chunks(self.piece) {
                left -= piece.len();
                let wanted = rows.saturating_sub(left).min(piece.len());
                // A chunk without requested logits is read for the cache only; a model returns at least one row of logits.
                let logits =
                    model.forward(&mut [Input { ids: piece, regime, cache, logits: Logits::Tail(wanted.max(1)) }]);
                if wanted > 0 {
                    pieces.push(logits);
                }
            }
        });
        if pieces.len() == 1 { pieces.swap_remove(0) } else { Tensor::cat(pieces, 0) }
    }
}

/// Checks the requirements of [`Session::extend`] on `ids` after `read` tokens.
pub(crate) fn expect_readable(config: &ModelConfig, read: usize, ids: &[u32]) -> Result<(), Error> {
    let len = read + ids.len();
    if ids.is_empty() {
        return Err(Error::Empty);
    }
    if let Some(&found) = ids.iter().find(|&&id| id as usize >= config.vocab_size) {
        return Err(Error::TokenId { vocabulary: config.vocab_size, found });
    }
    if len > config.max_position_embeddings {
        return Err(Error::ContextFull { limit: config.max_position_embeddings, found: len });
    }
    Ok(())
}

/// How a text is continued, and when it ends.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generator {
    /// Maximum number of tokens.
    pub max_new_tokens: usize,
    /// Stop tokens; the one that ends the text is part of the result.
    pub stop_ids: Vec<u32>,
    /// How each token is chosen.
    pub sampler: Sampler,
}

/// One generated token.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The token.
    pub id: u32,
    /// The logits from which it was chosen, over the vocabulary.
    pub logits: &'a [f32],
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stop {
    /// A stop token.
    Eos,
    /// The maximum number of tokens, or a full context.
    Length,
    /// The caller stopped it.
    Caller,
}

/// Generated tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// The tokens, the stop token included.
    pub ids: Vec<u32>,
    /// Why generation ended.
    pub stop: Stop,
}

impl Generator {
    /// Greedy decoding.
    pub fn greedy(max_new_tokens: usize, stop_ids: &[u32]) -> Self {
        Self { max_new_tokens, stop_ids: stop_ids.to_vec(), sampler: Sampler::default() }
    }

    /// Continues `prompt`.
    ///
    /// # Errors
    /// As [`Session::read`]; also when a setting of the sampler is out of range. A full context after the prompt ends the text.
    pub fn generate(
        &self,
        model: &dyn CausalLm,
        prompt: &[u32],
        on_step: impl FnMut(Step<'_>) -> ControlFlow<()>,
    ) -> Result<Generation, Error> {
        let limit = model.config().max_position_embeddings;
        let room = self.max_new_tokens.min(limit.saturating_sub(prompt.len()));
        // Capacity for a likely length; it grows for longer texts.
        let mut session = Session::new(model, prompt.len() + room.min(1024));
        self.extend(&mut session, prompt, on_step)
    }

    /// Reads `prompt` after the tokens of the session, and continues. The last generated token is not read.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub fn extend(
        &self,
        session: &mut Session<'_>,
        prompt: &[u32],
        mut on_step: impl FnMut(Step<'_>) -> ControlFlow<()>,
    ) -> Result<Generation, Error> {
        let mut tokens = Tokens::new(session, prompt, self.max_new_tokens, self.stop_ids.clone(), self.sampler)?;
        let mut ids = Vec::new();
        for token in tokens.by_ref() {
            let Token { id, logits } = token?;
            ids.push(id);
            if on_step(Step { id, logits: &logits }).is_break() {
                return Ok(Generation { ids, stop: Stop::Caller });
            }
        }
        Ok(Generation { ids, stop: tokens.stop })
    }
}

/// A generated token, and the logits from which it was chosen, over the vocabulary.
#[derive(Clone, Debug)]
pub struct Token {
    /// The token.
    pub id: u32,
    /// The logits.
    pub logits: Vec<f32>,
}

/// An iterator over the tokens after a prompt, each computed on demand.
#[derive(Debug)]
pub struct Tokens<'m, S> {
    session: S,
    choice: TokenChoice,
    stop_ids: Vec<u32>,
    /// Tokens to read before the next is chosen.
    unread: Vec<u32>,
    /// Remaining number of tokens.
    left: usize,
    /// Why the text ended, if it has.
    stop: Stop,
    model: PhantomData<&'m dyn CausalLm>,
}

impl<'m, S: BorrowMut<Session<'m>>> Tokens<'m, S> {
    /// Continues after `prompt`, which is read after the tokens of `session`.
    ///
    /// # Errors
    /// When the model cannot read the prompt, as [`Session::extend`], or a setting of the sampler is out of range.
    pub fn new(
        session: S,
        prompt: &[u32],
        max_new_tokens: usize,
        stop_ids: Vec<u32>,
        sampler: Sampler,
    ) -> Result<Self, Error> {
        let read: &Session<'m> = session.borrow();
        if max_new_tokens > 0 {
            expect_readable(read.model.config(), read.ids.len(), prompt)?;
        }
        let (choice, unread) = (sampler.start()?, prompt.to_vec());
        Ok(Self { session, choice, stop_ids, unread, left: max_new_tokens, stop: Stop::Length, model: PhantomData })
    }

    /// Whether the text has ended.
    fn is_ended(&self) -> bool {
        let session: &Session<'m> = self.session.borrow();
        self.left == 0 || session.ids.len() == session.model.config().max_position_embeddings
    }

    /// The next token, from the logits after those that were unread.
    fn choose(&mut self, logits: Result<Vec<f32>, Error>) -> Result<Token, Error> {
        let session: &Session<'m> = self.session.borrow();
        let token = logits.and_then(|logits| match self.choice.next(&logits, session.ids()) {
            Some(id) => Ok(Token { id, logits }),
            None => Err(session.overflow(&logits)),
        });
        match &token {
            Ok(token) if self.stop_ids.contains(&token.id) => (self.left, self.stop) = (0, Stop::Eos),
            Ok(token) => (self.left, self.unread) = (self.left - 1, vec![token.id]),
            Err(_) => self.left = 0,
        }
        token
    }
}

impl<'m, S: BorrowMut<Session<'m>>> Iterator for Tokens<'m, S> {
    type Item = Result<Token, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_ended() {
            return None;
        }
        let session: &mut Session<'m> = self.session.borrow_mut();
        let logits = session.read(&self.unread, Logits::Last);
        Some(self.choose(logits))
    }
}

/// Teacher forcing: the logits that predict each token of `continuation` after `prompt` and the tokens before
/// it, `[continuation.len(), vocabulary]` row-major.
///
/// The whole is read as one sequence, so a continuation past LongRoPE's original length is read with the
/// frequencies of the full length from its start, whereas generation switched to them on the way.
///
/// # Errors
/// As [`Session::read`]; also for an empty prompt.
pub fn score(model: &dyn CausalLm, prompt: &[u32], continuation: &[u32]) -> Result<Vec<f32>, Error> {
    if prompt.is_empty() {
        return Err(Error::Empty);
    }
    let Some((_, read)) = continuation.split_last() else { return Ok(Vec::new()) };
    let ids = [prompt, read].concat();
    // The last token of the prompt predicts the first of the continuation.
    Session::new(model, ids.len()).read(&ids, Logits::Tail(continuation.len()))
}

/// As [`score`], but the continuation is read token by token, as in decoding.
///
/// # Errors
/// As [`score`].
pub fn score_token_by_token(model: &dyn CausalLm, prompt: &[u32], continuation: &[u32]) -> Result<Vec<f32>, Error> {
    let mut session = Session::new(model, prompt.len() + continuation.len());
    let Some((_, read)) = continuation.split_last() else { return Ok(Vec::new()) };
    let mut logits = session.read(prompt, Logits::Last)?;
    for id in read {
        logits.extend(session.read(&[*id], Logits::Last)?);
    }
    Ok(logits)
}

/// The logits after each of `ids`, `[ids.len(), vocabulary]` row-major.
///
/// # Errors
/// As [`Session::read`].
pub fn scores(model: &dyn CausalLm, ids: &[u32]) -> Result<Vec<f32>, Error> {
    Session::new(model, ids.len()).read(ids, Logits::All)
}
