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

    /// Reads tokens of one sequence, or of several side by side: `[number of requested logits, vocabulary]`, those of one sequence after
    /// those of another. The ids must be below the vocabulary's size, and each cache filled in the same regime;
    /// [`Session`](crate::Session) ensures both.
    fn forward(&self, inputs: &mut [Input<'_>]) -> Tensor<2>;
}

/// Tokens of a sequence to read.
#[derive(Debug)]
pub struct Input<'a> {
    /// The tokens, at least one.
    pub ids: &'a [u32],
    /// The rotary frequencies of the sequence.
    pub regime: RopeRegime,
    /// The tokens before; these are appended.
    pub cache: &'a mut KvCache,
    /// The positions whose logits are requested.
    pub logits: Logits,
}

impl Input<'_> {
    /// The number of positions whose logits are requested.
    pub(crate) fn rows(&self) -> usize {
        self.logits.rows(self.ids.len())
    }
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
