//! Fields of `config.json` that all families have.

use qins_quant::json;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Activation, Biases, Factors, LayerConfig, LayerRope, ModelConfig, NormPlacement, QkNorm, Softcaps,
    rope::{RopeFields, RopeModel, RopeSettings},
};
use crate::stop::token_ids;

/// Fields of `config.json` that all families have.
#[derive(Clone, Deserialize)]
pub(crate) struct Fields {
    pub(crate) model_type: String,
    vocab_size: usize,
    pub(crate) hidden_size: usize,
    intermediate_size: usize,
    pub(crate) num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    pub(crate) head_dim: Option<usize>,
    pub(crate) max_position_embeddings: usize,
    rms_norm_eps: f64,
    hidden_act: Option<String>,
    pub(crate) hidden_activation: Option<String>,
    pub(crate) tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    pub(crate) sliding_window: Option<usize>,
    layer_types: Option<Vec<LayerType>>,
    #[serde(default)]
    eos_token_id: Value,
    /// Read from the same object, and separately: flattened, errors would not name the field.
    #[serde(skip)]
    pub(crate) rope: RopeFields,
}

/// The largest width of a head, as a power of 2: tables of frequencies are as long.
const HEAD_DIM_BITS: u32 = 20;

/// The largest model: sums of the bytes of its tensors do not overflow, with room.
const MOST_WEIGHTS: f64 = (1_u64 << 42) as f64;

/// A block's attention, as `layer_types` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LayerType {
    FullAttention,
    SlidingAttention,
}

/// A number that must be positive.
///
/// # Errors
/// When it is not, or not finite in `f32`.
pub(crate) fn positive(name: &str, value: f64) -> Result<f32, String> {
    let narrow = value as f32;
    if narrow > 0.0 && narrow.is_finite() {
        Ok(narrow)
    } else {
        Err(format!("expected a positive {name} within f32, found {value}"))
    }
}

impl Fields {
    /// The fields of a `config.json`.
    ///
    /// # Errors
    /// When one is missing, of the wrong type or out of range.
    pub(crate) fn of(config: &Value) -> Result<Self, String> {
        let all = Self { rope: json::typed(config)?, ..json::typed(config)? };
        all.check().map(|()| all)
    }

    fn check(&self) -> Result<(), String> {
        // Products of two sizes must not overflow, and a list of all layers must fit in memory; real models are far below.
        for (name, n, bits) in [
            ("vocab_size", self.vocab_size, 28),
            ("hidden_size", self.hidden_size, 28),
            ("intermediate_size", self.intermediate_size, 28),
            ("num_hidden_layers", self.num_hidden_layers, 12),
            ("num_attention_heads", self.num_attention_heads, 28),
            ("max_position_embeddings", self.max_position_embeddings, 28),
            ("head_dim", self.head_dim.unwrap_or(1), HEAD_DIM_BITS),
            ("sliding_window", self.sliding_window.unwrap_or(1), 28),
        ] {
            if n == 0 || n > 1 << bits {
                return Err(format!("expected {name} from 1 to 2^{bits}, found {n}"));
            }
        }
        let (heads, kv_heads) = (self.num_attention_heads, self.num_key_value_heads);
        if let Some(kv_heads) = kv_heads.filter(|n| *n == 0 || !heads.is_multiple_of(*n)) {
            return Err(format!("expected num_key_value_heads to divide {heads} heads, found {kv_heads}"));
        }
        // It is an f32 in the norm.
        positive("rms_norm_eps", self.rms_norm_eps).map(drop)
    }

    fn expect_size(&self, heads: f64, head_dim: f64) -> Result<(), String> {
        let hidden = self.hidden_size as f64;
        let of_block = hidden * (3.0 * self.intermediate_size as f64 + 4.0 * heads * head_dim);
        let weights = self.num_hidden_layers as f64 * of_block + 2.0 * hidden * self.vocab_size as f64;
        if weights <= MOST_WEIGHTS {
            return Ok(());
        }
        Err(format!("expected a model of at most 2^42 weights, found sizes of about {weights:.1e}"))
    }

    /// The model that these fields describe, as Llama has it: norms before, no biases, and every block attends to everything.
    ///
    /// # Errors
    /// When a field contradicts another.
    pub(crate) fn model(&self, rope: RopeSettings) -> Result<ModelConfig, String> {
        let heads = self.num_attention_heads;
        let head_dim = self.head_dim()?;
        self.expect_size(heads as f64, head_dim as f64)?;
        let layer = LayerConfig { window: None, rope: LayerRope::Global };
        Ok(ModelConfig {
            model_type: self.model_type.clone(),
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            activation: self.activation()?,
            layers: vec![layer; self.num_hidden_layers],
            num_attention_heads: heads,
            num_key_value_heads: self.num_key_value_heads.unwrap_or(heads),
            head_dim,
            norms: NormPlacement::Before,
            qk_norm: QkNorm::None,
            norm_plus_one: false,
            rms_norm_eps: self.rms_norm_eps,
            biases: Biases::default(),
            factors: Factors { embedding: 1.0, embedding_is_tensor: false, attention: 1.0, residual: 1.0, logits: 1.0 },
            softcaps: Softcaps::default(),
            rope,
            local_rope: None,
            max_position_embeddings: self.max_position_embeddings,
            tie_word_embeddings: self.tie_word_embeddings.unwrap_or(false),
            fused: false,
            eos_token_ids: token_ids("eos_token_id", &self.eos_token_id, self.vocab_size)?.unwrap_or_default(),
        })
    }

    /// The rope settings of all blocks; `theta` is the family's base of the frequencies.
    ///
    /// # Errors
    /// As [`RopeFields::settings`].
    pub(crate) fn rope(&self, theta: f64) -> Result<RopeSettings, String> {
        self.rope.settings(self.rope_model(theta)?)
    }

    /// What the rope settings depend on; `theta` is the family's base.
    ///
    /// # Errors
    /// When the width of a head does not follow from the other fields.
    pub(crate) fn rope_model(&self, theta: f64) -> Result<RopeModel<'_>, String> {
        let (model_type, longest) = (&self.model_type[..], self.max_position_embeddings);
        let head_dim = self.head_dim()?;
        Ok(RopeModel { model_type, theta, head_dim, max_position_embeddings: longest, is_phi3: false })
    }

    fn head_dim(&self) -> Result<usize, String> {
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
        match self.head_dim {
            Some(dim) => Ok(dim),
            None if hidden / heads > 1 << HEAD_DIM_BITS => Err(format!(
                "expected heads of at most 2^{HEAD_DIM_BITS}, found hidden_size {hidden} and {heads} heads"
            )),
            None if hidden.is_multiple_of(heads) => Ok(hidden / heads),
            None => Err(format!("expected hidden_size to be a multiple of {heads} heads, found {hidden}")),
        }
    }

    /// `hidden_activation` has precedence: Gemma's older files have another function in `hidden_act`, which is not used.
    fn activation(&self) -> Result<Activation, String> {
        let name = self.hidden_activation.as_deref().or(self.hidden_act.as_deref());
        match name {
            Some("silu" | "swish") => Ok(Activation::Silu),
            Some("gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
            _ => {
                let found = name.unwrap_or("none");
                Err(format!("expected hidden_act `silu` or `gelu_pytorch_tanh`, found `{found}`"))
            }
        }
    }

    /// Biases of q, k, v and the attention's output together, as `attention_bias` says, and of the MLP, as `mlp_bias` does.
    ///
    /// # Errors
    /// When the file has one of the two that is not `known` to the family.
    pub(crate) fn biases(&self, known: &[&str]) -> Result<Biases, String> {
        let given = |name: &str, flag: Option<bool>| match flag {
            Some(true) if !known.contains(&name) => {
                Err(format!("expected no {name} with model_type `{}`, found it", self.model_type))
            }
            flag => Ok(flag.unwrap_or(false)),
        };
        let attention = given("attention_bias", self.attention_bias)?;
        Ok(Biases { qkv: attention, output: attention, mlp: given("mlp_bias", self.mlp_bias)? })
    }

    /// Sets the window that some families have where `config.json` does not name any; null is none.
    pub(crate) fn assume_window(&mut self, config: &Value) {
        if config.get("sliding_window").is_none() {
            self.sliding_window = Some(4096);
        }
    }

    /// Sets the number of key and value heads that some families have where `config.json` does not name any; null is one for each head.
    ///
    /// # Errors
    /// When it does not divide the number of heads.
    pub(crate) fn assume_kv_heads(&mut self, config: &Value, assumed: usize) -> Result<(), String> {
        if config.get("num_key_value_heads").is_some() {
            return Ok(());
        }
        let (heads, family) = (self.num_attention_heads, &self.model_type);
        if !heads.is_multiple_of(assumed) {
            return Err(format!(
                "expected num_key_value_heads, since the {assumed} of `{family}` do not divide {heads} heads, found none"
            ));
        }
        self.num_key_value_heads = Some(assumed);
        Ok(())
    }

    /// The blocks with their windows: those of type sliding in `layer_types`, or, where that is not given, those that `slides`.
    ///
    /// # Errors
    /// When `layer_types` is not one for each block, or a block slides without a `sliding_window`.
    pub(crate) fn windows(&self, slides: impl Fn(usize) -> bool) -> Result<Vec<LayerConfig>, String> {
        let layers = self.num_hidden_layers;
        let types = self.layer_types.as_deref();
        if let Some(types) = types.filter(|types| types.len() != layers) {
            return Err(format!("expected layer_types of {layers} blocks, found {}", types.len()));
        }
        let slides = |layer: usize| match types {
            Some(types) => types[layer] == LayerType::SlidingAttention,
            None => self.sliding_window.is_some() && slides(layer),
        };
        let layer = |layer| match (slides(layer), self.sliding_window) {
            (true, None) => Err(format!("expected a sliding_window for block {layer}, found none")),
            (slides, window) => Ok(LayerConfig { window: window.filter(|_| slides), rope: LayerRope::Global }),
        };
        (0..layers).map(layer).collect()
    }
}
