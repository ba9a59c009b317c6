//! The interface between an evaluation and the engine that runs the model.

use std::{error::Error, ops::ControlFlow};

use qins_model::{ModelConfig, ModelSource, Policy, Sampler};
use qins_quant::{EncodedTensor, kv::KvScheme};

/// An error of an engine, of any type.
pub type ModelError = Box<dyn Error + Send + Sync>;

/// What receives generated tokens: the number of the prompt, the token, and the logits `[vocabulary]` it was chosen from. It ends the
/// work by breaking.
pub type OnToken<'a> = dyn FnMut(usize, u32, &[f32]) -> ControlFlow<()> + 'a;

/// The size of a model's weights.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WeightSizes {
    /// Bytes of all weights as stored, plain ones included.
    pub bytes: u64,
    /// Number of weights in encoded linears.
    pub encoded_weights: u64,
    /// Bits per weight (bpw) of the encoded linears, scales and other parameters included; `None` when nothing is encoded.
    pub bits_per_weight: Option<f64>,
}

/// How a continuation is generated.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// Maximum number of tokens to generate.
    pub max_new_tokens: usize,
    /// Token ids that end the text; the one that ends it is part of the result.
    pub stop_ids: Vec<u32>,
    /// How each token is sampled; at temperature 0, greedily.
    pub sampler: Sampler,
}

/// The order in which the tokens of a continuation are computed for scoring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scoring {
    /// All tokens in one forward pass, as in prefill.
    Batched,
    /// One token after the other through the KV cache, as in decode.
    TokenByToken,
}

/// The arithmetic of a model's operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arithmetic {
    /// FP32.
    #[default]
    F32,
    /// The result of each operation rounded to bf16.
    Bf16,
    /// FP32, and the keys of each token and head rounded to 3 bits before they are cached: seven multiples of a third of the
    /// largest magnitude.
    CoarseKeys,
}

/// A loaded model, plain or encoded. An engine that implements this trait and [`EvalLoader`] can be validated against its own plain
/// weights.
///
/// Logits are raw scores, one per token id in `0..config().vocab_size`. Results must be deterministic: the same calls on the same
/// model give the same bits, or the A/A control fails.
pub trait EvalModel: Send + Sync {
    /// The model's configuration: vocabulary size, context length, shapes of its linears.
    fn config(&self) -> &ModelConfig;

    /// The size of its weights.
    fn sizes(&self) -> WeightSizes;

    /// Generates continuations of `prompts`, one by one or several at a time. The tokens of a text come in order.
    ///
    /// # Errors
    /// With the number of the prompt, when a token is outside the vocabulary, the prompt exceeds the context, or the device fails.
    fn generate(
        &self,
        prompts: &[(&[u32], GenerateOptions)],
        on_token: &mut OnToken<'_>,
    ) -> Result<(), (usize, ModelError)>;

    /// Teacher forcing: the logits `[continuation.len(), vocabulary]`, row-major, that predict each token of `continuation` given
    /// `context` and the tokens before it.
    ///
    /// # Errors
    /// When a token is outside the vocabulary, the tokens exceed the context, or the device fails.
    fn score(&self, context: &[u32], continuation: &[u32], scoring: Scoring) -> Result<Vec<f32>, ModelError>;

    /// Sets the arithmetic of all that follows.
    fn set_arithmetic(&mut self, arithmetic: Arithmetic);

    /// Sets how the KV cache of later sequences is stored.
    fn set_kv(&mut self, scheme: KvScheme);

    /// Encodes the plain linears that `policy` selects, until [`restore`](Self::restore) or the next `apply`, which starts from
    /// the loaded weights again.
    ///
    /// # Errors
    /// When a weight cannot be encoded; the model then has the weights it was loaded with.
    fn apply(&mut self, policy: &Policy) -> Result<(), ModelError>;

    /// Puts the linears that `encoded` gives, by their names, in the place of the plain ones, as [`apply`](Self::apply) does.
    ///
    /// # Errors
    /// The first error of `encoded`; the model then has the weights it was loaded with.
    fn replace(
        &mut self,
        encoded: &mut dyn FnMut(&str) -> Result<Option<EncodedTensor>, ModelError>,
    ) -> Result<(), ModelError>;

    /// Undoes [`apply`](Self::apply) or [`replace`](Self::replace): afterwards the weights are those that were loaded, bit for bit.
    fn restore(&mut self);

    /// Calls `visit` for every linear, one at a time, with its module name (`model.layers.0.self_attn.v_proj`) and its decoded
    /// weights `[out, in]`, row-major.
    ///
    /// # Errors
    /// When the device fails.
    fn visit_weights(&mut self, visit: &mut dyn FnMut(&str, Vec<f32>)) -> Result<(), ModelError>;
}

/// Loads models for an evaluation.
pub trait EvalLoader {
    /// Loads the model of `source`; with a `policy`, the plain linears that it selects are encoded.
    ///
    /// # Errors
    /// When the checkpoint cannot be read, or a weight cannot be encoded.
    fn load(&self, source: &ModelSource, policy: Option<&Policy>) -> Result<Box<dyn EvalModel>, ModelError>;
}
