//! `config.json`.

use std::path::Path;

use qins_quant::{checkpoint::Checkpoint, json};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    Error, Rope, RopeScaling,
    rope_settings::{RopeFields, RopeModel, RopeSettings},
    stop::token_ids,
};

/// A model's `config.json`, validated: the shapes of its tensors and the structure of its blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// `phi3` or `llama`.
    pub model_type: String,
    /// Rows of the embedding and of the head.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Activation function of the MLP's gate.
    pub activation: Activation,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Number of rotated dimensions of each head, an even number.
    pub rotary_dim: usize,
    /// Base of the rotation frequencies.
    pub rope_theta: f64,
    /// Scaling of the rotation frequencies.
    pub rope_scaling: RopeScaling,
    /// Context length: the longest sequence.
    pub max_position_embeddings: usize,
    /// Sliding attention window: positions a token attends to, itself included; `None` for all.
    pub sliding_window: Option<usize>,
    /// ε of every RMSNorm.
    pub rms_norm_eps: f64,
    /// Whether the output head shares the embedding's weights.
    pub tie_word_embeddings: bool,
    /// End-of-text token ids of this file.
    pub eos_token_ids: Vec<u32>,
}

/// The activation function of an MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x·σ(x).
    Silu,
}

#[derive(Deserialize)]
struct Raw {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    hidden_act: String,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    sliding_window: Option<usize>,
    #[serde(default)]
    eos_token_id: Value,
}

impl ModelConfig {
    /// The configuration of a checkpoint.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn of(checkpoint: &Checkpoint) -> Result<Self, Error> {
        Self::parse(checkpoint.config(), &checkpoint.config_path())
    }

    /// Reads and checks the content of `config.json`; `path` is for messages.
    ///
    /// # Errors
    /// When a field is missing, out of range or contradicts another, or the model is not supported.
    pub fn parse(value: &Value, path: &Path) -> Result<Self, Error> {
        let error = |message: String| Error::Config { path: path.to_owned(), message };
        let model_type = value.get("model_type").and_then(Value::as_str).unwrap_or("none");
        if !["phi3", "llama"].contains(&model_type) {
            return Err(error(format!("expected model_type `phi3` or `llama`, found `{model_type}`")));
        }
        let read = || json::typed::<Raw>(value)?.check(&json::typed(value)?);
        read().map_err(error)
    }
}

impl Raw {
    fn check(self, rope: &RopeFields) -> Result<ModelConfig, String> {
        let is_phi3 = self.model_type == "phi3";
        if self.attention_bias == Some(true) || self.mlp_bias == Some(true) {
            return Err("expected linears without biases, found attention_bias or mlp_bias".to_owned());
        }
        let activation = match &self.hidden_act[..] {
            "silu" => Activation::Silu,
            other => return Err(format!("expected hidden_act `silu`, found `{other}`")),
        };
        // Products of two sizes must not overflow, and a list of all layers must fit in memory; real models are far below.
        for (name, n, bits) in [
            ("vocab_size", self.vocab_size, 28),
            ("hidden_size", self.hidden_size, 28),
            ("intermediate_size", self.intermediate_size, 28),
            ("num_hidden_layers", self.num_hidden_layers, 12),
            ("num_attention_heads", self.num_attention_heads, 28),
            ("max_position_embeddings", self.max_position_embeddings, 28),
        ] {
            if n == 0 || n > 1 << bits {
                return Err(format!("expected {name} from 1 to 2^{bits}, found {n}"));
            }
        }
        // It is an f32 in the norm.
        if !(self.rms_norm_eps as f32 > 0.0 && (self.rms_norm_eps as f32).is_finite()) {
            return Err(format!("expected a positive rms_norm_eps within f32, found {}", self.rms_norm_eps));
        }
        let heads = self.num_attention_heads;
        let kv_heads = self.num_key_value_heads.unwrap_or(heads);
        if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            return Err(format!("expected num_key_value_heads to divide {heads} heads, found {kv_heads}"));
        }
        let head_dim = match self.head_dim {
            Some(dim) if dim > 0 && dim <= 1 << 20 => dim,
            Some(dim) => return Err(format!("expected head_dim from 1 to 2^20, found {dim}")),
            None if self.hidden_size.is_multiple_of(heads) => self.hidden_size / heads,
            None => {
                return Err(format!(
                    "expected hidden_size to be a multiple of {heads} heads, found {}",
                    self.hidden_size
                ));
            }
        };
        if self.sliding_window == Some(0) {
            return Err("expected a sliding_window of at least 1, found 0".to_owned());
        }
        let RopeSettings { theta, rotary_dim, scaling } =
            rope.settings(&RopeModel { is_phi3, head_dim, max_position_embeddings: self.max_position_embeddings })?;
        let eos_token_ids = token_ids("eos_token_id", &self.eos_token_id, self.vocab_size)?.unwrap_or_default();
        let config = ModelConfig {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            activation,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            head_dim,
            rotary_dim,
            rope_theta: theta,
            rope_scaling: scaling,
            max_position_embeddings: self.max_position_embeddings,
            // Llama's configuration may carry the field, but the model ignores it.
            sliding_window: self.sliding_window.filter(|_| is_phi3),
            rms_norm_eps: self.rms_norm_eps,
            tie_word_embeddings: self.tie_word_embeddings.unwrap_or(false),
            eos_token_ids,
            model_type: self.model_type,
        };
        // Each setting may be valid by itself, and their quotient beyond f32.
        match Rope::new(&config).all_frequencies().find(|f| !f.is_finite()) {
            None => Ok(config),
            Some(found) => Err(format!("expected finite rotation frequencies, found {found} with rope_theta {theta}")),
        }
    }
}
