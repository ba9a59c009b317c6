//! What an evaluation asks of a model.

use std::error::Error;

use qins_model::{ModelConfig, ModelSource, Policy, Sampler};
use qins_quant::kv::KvScheme;

/// An error of a model, whatever computes it.
pub type ModelError = Box<dyn Error + Send + Sync>;

/// Bytes of a model's weights.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WeightSizes {
    /// Of all weights, as stored.
    pub bytes: u64,
    /// Weights in encoded linears.
    pub encoded_weights: u64,
    /// Per encoded weight, parameters included; none when nothing is encoded.
    pub bits_per_weight: Option<f64>,
}

/// How a continuation is written.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// Tokens at most.
    pub max_new_tokens: usize,
    /// Tokens that end the text; the one that does is part of it.
    pub stop_ids: Vec<u32>,
    /// How each token is chosen.
    pub sampler: Sampler,
}

/// The order in which a continuation is read for scoring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scoring {
    /// All tokens at once.
    Batched,
    /// One token after the other, as when it is generated.
    TokenByToken,
}

/// A loaded model, plain or encoded. An engine that implements this can be validated against its own plain weights.
pub trait EvalModel: Send + Sync {
    /// Its shapes and limits.
    fn config(&self) -> &ModelConfig;

    /// The size of its weights.
    fn sizes(&self) -> WeightSizes;

    /// Continues `prompt`; `on_token` is given each token and the logits it was chosen by, over the vocabulary.
    ///
    /// # Errors
    /// When the model cannot read the prompt, or its device fails.
    fn generate(
        &self,
        prompt: &[u32],
        options: &GenerateOptions,
        on_token: &mut dyn FnMut(u32, &[f32]),
    ) -> Result<Vec<u32>, ModelError>;

    /// Teacher forcing: the logits by which each token of `continuation` is predicted after `context` and the tokens before it,
    /// `[continuation.len(), vocabulary]` row-major.
    ///
    /// # Errors
    /// When the model cannot read the tokens, or its device fails.
    fn score(&self, context: &[u32], continuation: &[u32], scoring: Scoring) -> Result<Vec<f32>, ModelError>;

    /// From now on rounds the result of each operation to bf16, or no longer.
    fn set_bf16(&mut self, bf16: bool);

    /// How keys and values of sequences are stored that are read from now on.
    fn set_kv(&mut self, scheme: KvScheme);

    /// Encodes the plain linears that `policy` names, until [`restore`](Self::restore).
    ///
    /// # Errors
    /// When a weight cannot be encoded; the model is then as it was.
    fn apply(&mut self, policy: &Policy) -> Result<(), ModelError>;

    /// Undoes [`apply`](Self::apply).
    fn restore(&mut self);

    /// Gives `visit` the name and the decoded weights of every linear, `[out, in]` row-major, one linear at a time.
    ///
    /// # Errors
    /// When the device fails.
    fn visit_weights(&mut self, visit: &mut dyn FnMut(&str, Vec<f32>)) -> Result<(), ModelError>;
}

/// Loads the models of an evaluation.
pub trait EvalLoader {
    /// Loads a model; plain linears are encoded on the way where `policy` says so.
    ///
    /// # Errors
    /// When the checkpoint cannot be read or encoded.
    fn load(&self, source: &ModelSource, policy: Option<&Policy>) -> Result<Box<dyn EvalModel>, ModelError>;
}
