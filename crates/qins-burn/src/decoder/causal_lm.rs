//! What generating, scoring and comparing need of a model.

use burn::tensor::{Device, Tensor};
use qins_model::{ModelConfig, RopeRegime};

use crate::{KvCache, Projections};

/// A causal language model: ids in, logits of the next token out. [`Decoder`](super::Decoder) is one; another module that is one can
/// be generated with, scored, calibrated and compared like it.
pub trait CausalLm: Projections + std::fmt::Debug + Sync {
    /// Its shapes and limits.
    fn config(&self) -> &ModelConfig;

    /// The device its weights are on.
    fn device(&self) -> Device;

    /// The rotary frequencies that a sequence of `len` tokens is read with.
    fn regime(&self, len: usize) -> RopeRegime;

    /// An empty cache for a sequence, with room for `capacity` tokens.
    fn cache(&self, capacity: usize) -> KvCache;

    /// Reads `ids` after the tokens in `cache`: `[n] → [as many as are wanted, vocabulary]`. The ids must be below the vocabulary's
    /// size, and the cache filled in the same regime; [`Session`](crate::Session) sees to both.
    fn forward(&self, ids: &[u32], regime: RopeRegime, cache: &mut KvCache, logits: Logits) -> Tensor<2>;
}

/// Of which positions logits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logits {
    /// The last one: the next token.
    Last,
    /// The last so many, but one at least, and all where there are fewer.
    Tail(usize),
    /// Every one: teacher forcing.
    All,
}

impl Logits {
    /// Of how many of `n` positions.
    pub(crate) fn rows(self, n: usize) -> usize {
        match self {
            Self::Last => n.min(1),
            Self::Tail(rows) => n.min(rows.max(1)),
            Self::All => n,
        }
    }
}
