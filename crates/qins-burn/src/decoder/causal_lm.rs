//! The interface of a model for generation, scoring and evaluation.

use burn::tensor::{Device, Tensor};
use qins_model::{ModelConfig, RopeRegime};

use crate::{KvCache, Projections};

/// A causal language model: ids in, logits of the next token out. [`Decoder`](super::Decoder) implements it; generation, scoring,
/// calibration and evaluation work with any implementation.
pub trait CausalLm: Projections + std::fmt::Debug + Sync {
    /// Its shapes and limits.
    fn config(&self) -> &ModelConfig;

    /// The device its weights are on.
    fn device(&self) -> Device;

    /// The rotary frequencies for a sequence of `len` tokens.
    fn regime(&self, len: usize) -> RopeRegime;

    /// An empty cache for a sequence, with capacity for `capacity` tokens.
    fn cache(&self, capacity: usize) -> KvCache;

    /// Reads `ids` after the tokens in `cache`: `[n] → [number of requested logits, vocabulary]`. The ids must be below the vocabulary's
    /// size, and the cache filled in the same regime; [`Session`](crate::Session) ensures both.
    fn forward(&self, ids: &[u32], regime: RopeRegime, cache: &mut KvCache, logits: Logits) -> Tensor<2>;
}

/// The positions whose logits are requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logits {
    /// The last one: the next token.
    Last,
    /// The last n, at least one; all if there are fewer.
    Tail(usize),
    /// Every one: teacher forcing.
    All,
}

impl Logits {
    /// The number of requested positions among `n`.
    pub(crate) fn rows(self, n: usize) -> usize {
        match self {
            Self::Last => n.min(1),
            Self::Tail(rows) => n.min(rows.max(1)),
            Self::All => n,
        }
    }
}
