//! `config.json`, in the hub's style (`rope_theta`, `rope_scaling`) and the newer one (`rope_parameters`).

mod fields;
mod rope;

use std::path::Path;

use qins_quant::checkpoint::Checkpoint;
use serde_json::Value;

pub(crate) use fields::{Fields, positive};
pub use rope::{Llama3, LongRope, RopeScaling, RopeSettings, Yarn};
pub(crate) use rope::{RopeFields, RopeModel};

use crate::{Error, families};

/// A model's `config.json`, validated: the shapes of its tensors and the structure of its blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The family: `phi3`, `llama` and so on.
    pub model_type: String,
    /// Rows of the embedding and of the head.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Activation function of the MLP's gate.
    pub activation: Activation,
    /// The blocks, in order.
    pub layers: Vec<LayerConfig>,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Where each block has norms.
    pub norms: NormPlacement,
    /// Norms of queries and keys.
    pub qk_norm: QkNorm,
    /// Whether a stored norm weight w scales by 1 + w.
    pub norm_plus_one: bool,
    /// ε of every RMSNorm.
    pub rms_norm_eps: f64,
    /// Which linears have biases.
    pub biases: Biases,
    /// Constant factors.
    pub factors: Factors,
    /// Soft caps of scores and logits.
    pub softcaps: Softcaps,
    /// Rotary position embedding of blocks with [`LayerRope::Global`].
    pub rope: RopeSettings,
    /// That of blocks with [`LayerRope::Local`]; `None` when there are none.
    pub local_rope: Option<RopeSettings>,
    /// Context length: the longest sequence.
    pub max_position_embeddings: usize,
    /// Whether the output head shares the embedding's weights.
    pub tie_word_embeddings: bool,
    /// Whether the family's files store q, k and v as one matrix, and gate and up as one.
    pub fused: bool,
    /// End-of-text token ids of this file.
    pub eos_token_ids: Vec<u32>,
}

/// What may differ between blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerConfig {
    /// Sliding attention window: positions a token attends to, itself included; `None` for all.
    pub window: Option<usize>,
    /// The rotation of queries and keys.
    pub rope: LayerRope,
}

/// Which rotary position embedding a block has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerRope {
    /// The model's.
    Global,
    /// The second one, of blocks with a sliding window.
    Local,
    /// None: positions are known from the other blocks alone.
    None,
}

/// The activation function of an MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// x·σ(x).
    Silu,
    /// GELU by its approximation with tanh: x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))).
    GeluTanh,
}

/// Where a block has RMSNorms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlacement {
    /// Before the attention and before the MLP.
    Before,
    /// After each, before it is added to the residual stream.
    After,
    /// Both.
    BeforeAndAfter,
}

/// RMSNorms of queries and keys, before their rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    /// None.
    None,
    /// Of each head.
    PerHead,
    /// Of all heads together.
    AllHeads,
}

/// Which linears of a block have biases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Biases {
    /// q, k and v.
    pub qkv: bool,
    /// The attention's output.
    pub output: bool,
    /// gate, up and down.
    pub mlp: bool,
}

/// Constant factors of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factors {
    /// Of the embeddings.
    pub embedding: f32,
    /// Whether that factor is a tensor, and so rounded to the type of the activations; the others are numbers.
    pub embedding_is_tensor: bool,
    /// Of q·k, beyond 1/√head_dim.
    pub attention: f32,
    /// Of what each attention and MLP adds to the residual stream.
    pub residual: f32,
    /// Divides the logits.
    pub logits: f32,
}

/// Soft caps: c·tanh(x/c).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Softcaps {
    /// Of the attention's scores.
    pub attention: Option<f32>,
    /// Of the logits.
    pub logits: Option<f32>,
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
        families::describe(value).map_err(|message| Error::Config { path: path.to_owned(), message })
    }
}
