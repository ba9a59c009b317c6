//! `config.json`, in the hub's style (`rope_theta`, `rope_scaling`) and the newer one (`rope_parameters`).

use std::path::Path;

use qins_quant::checkpoint::Checkpoint;
use serde::Deserialize;
use serde_json::Value;

use crate::Error;

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

/// Scaling of the frequencies of rotary position embedding (RoPE).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// No scaling: θ^(−2i/d).
    None,
    /// LongRoPE: divided by factors that depend on the sequence length.
    LongRope(LongRope),
}

/// Two sets of frequency divisors, one up to the original length and one beyond.
#[derive(Clone, Debug, PartialEq)]
pub struct LongRope {
    /// Divisors while the sequence has at most `original_max_position_embeddings` tokens.
    pub short_factor: Vec<f32>,
    /// Divisors, for all positions, once it has more.
    pub long_factor: Vec<f32>,
    /// The context length before extension.
    pub original_max_position_embeddings: usize,
    /// Factor of cos and sin, for both sets.
    pub attention_factor: f32,
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
    original_max_position_embeddings: Option<usize>,
    rms_norm_eps: f64,
    hidden_act: String,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    sliding_window: Option<usize>,
    eos_token_id: Option<OneOrMany>,
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    rope_scaling: Option<RawRope>,
    rope_parameters: Option<RawRope>,
}

#[derive(Deserialize, Default)]
struct RawRope {
    rope_type: Option<String>,
    r#type: Option<String>,
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
    short_factor: Option<Vec<f32>>,
    long_factor: Option<Vec<f32>>,
    attention_factor: Option<f32>,
}

/// A token id, or a list of them.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a token id or a list of them")]
pub(crate) enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl OneOrMany {
    pub(crate) fn into_vec(self) -> Vec<u32> {
        match self {
            Self::One(id) => vec![id],
            Self::Many(ids) => ids,
        }
    }
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
        // Names the invalid field, which serde alone does not.
        let raw: Raw = serde_path_to_error::deserialize(value).map_err(|e| error(e.to_string()))?;
        raw.check().map_err(error)
    }
}

impl Raw {
    fn check(self) -> Result<ModelConfig, String> {
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
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps.is_finite()) {
            return Err(format!("expected a positive rms_norm_eps, found {}", self.rms_norm_eps));
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
        let rope = self.rope_parameters.or(self.rope_scaling).unwrap_or_default();
        let theta = rope.rope_theta.or(self.rope_theta).unwrap_or(10_000.0);
        let partial = rope.partial_rotary_factor.or(self.partial_rotary_factor).unwrap_or(1.0);
        let rotary_dim = (head_dim as f64 * partial) as usize;
        if !rope.attention_factor.is_none_or(|f| f > 0.0 && f.is_finite()) {
            return Err(format!("expected a positive attention_factor, found {:?}", rope.attention_factor));
        }
        if !(theta > 0.0 && theta.is_finite()) {
            return Err(format!("expected a positive rope_theta, found {theta}"));
        }
        if rotary_dim == 0 || rotary_dim > head_dim || !rotary_dim.is_multiple_of(2) {
            return Err(format!("expected an even number of rotated dimensions up to {head_dim}, found {rotary_dim}"));
        }
        let original = rope.original_max_position_embeddings.or(self.original_max_position_embeddings);
        let rope_scaling = match rope.rope_type.as_deref().or(rope.r#type.as_deref()).unwrap_or("default") {
            "default" => RopeScaling::None,
            // The first Phi-3 called it `su`.
            "longrope" | "su" => {
                let factors = |name: &str, factors: Option<Vec<f32>>| {
                    let factors = factors.unwrap_or_default();
                    if factors.len() == rotary_dim / 2 && factors.iter().all(|f| *f > 0.0 && f.is_finite()) {
                        Ok(factors)
                    } else {
                        Err(format!("expected {} positive numbers in {name}, found {}", rotary_dim / 2, factors.len()))
                    }
                };
                let original = original.unwrap_or(4096);
                if original < 2 {
                    return Err(format!("expected original_max_position_embeddings of at least 2, found {original}"));
                }
                let extension = self.max_position_embeddings as f64 / original as f64;
                let default =
                    if extension <= 1.0 { 1.0 } else { (1.0 + extension.ln() / (original as f64).ln()).sqrt() };
                RopeScaling::LongRope(LongRope {
                    short_factor: factors("short_factor", rope.short_factor)?,
                    long_factor: factors("long_factor", rope.long_factor)?,
                    original_max_position_embeddings: original,
                    attention_factor: rope.attention_factor.unwrap_or(default as f32),
                })
            }
            other => return Err(format!("expected rope type `default` or `longrope`, found `{other}`")),
        };
        Ok(ModelConfig {
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
            rope_scaling,
            max_position_embeddings: self.max_position_embeddings,
            // Llama's configuration may carry the field, but the model ignores it.
            sliding_window: self.sliding_window.filter(|_| is_phi3),
            rms_norm_eps: self.rms_norm_eps,
            tie_word_embeddings: self.tie_word_embeddings.unwrap_or(false),
            eos_token_ids: self.eos_token_id.map(OneOrMany::into_vec).unwrap_or_default(),
            model_type: self.model_type,
        })
    }
}
