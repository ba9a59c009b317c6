//! What Gemma 2 and 3 have in common.

use serde::Deserialize;
use serde_json::Value;

use crate::{
    Factors, ModelConfig, NormPlacement, RopeSettings, Softcaps,
    config::{Fields, positive},
};

/// Fields of both.
#[derive(Deserialize)]
pub(super) struct Gemma {
    query_pre_attn_scalar: Option<f64>,
    attn_logit_softcapping: Option<f64>,
    final_logit_softcapping: Option<f64>,
    use_bidirectional_attention: Option<bool>,
}

impl Gemma {
    /// Sets the activation, the number and width of heads and the tying of embeddings that Transformers assumes.
    ///
    /// # Errors
    /// Without a window, which blocks of both have, or when the assumed number of heads does not fit.
    pub(super) fn head<'f>(&self, config: &Value, fields: &'f mut Fields) -> Result<&'f Fields, String> {
        if fields.sliding_window.is_none() {
            return Err("expected a sliding_window, found null".to_owned());
        }
        fields.assume_kv_heads(config, 4)?;
        fields.hidden_activation.get_or_insert("gelu_pytorch_tanh".to_owned());
        fields.head_dim.get_or_insert(256);
        fields.tie_word_embeddings.get_or_insert(true);
        Ok(fields)
    }

    /// The soft caps: given as null there is none, and not given there is `default`.
    pub(super) fn softcaps(&self, config: &Value, default: Softcaps) -> Result<Softcaps, String> {
        let cap = |name: &str, given: Option<f64>, default: Option<f32>| match given {
            None if config.get(name).is_none() => Ok(default),
            given => given.map(|cap| positive(name, cap)).transpose(),
        };
        Ok(Softcaps {
            attention: cap("attn_logit_softcapping", self.attn_logit_softcapping, default.attention)?,
            logits: cap("final_logit_softcapping", self.final_logit_softcapping, default.logits)?,
        })
    }

    /// Norms before and after with 1 + w, embeddings times √hidden_size.
    pub(super) fn model(&self, fields: &Fields, rope: RopeSettings) -> Result<ModelConfig, String> {
        if self.use_bidirectional_attention == Some(true) {
            return Err("expected a model that attends to earlier tokens, found use_bidirectional_attention".to_owned());
        }
        let scalar = self.query_pre_attn_scalar.unwrap_or(256.0);
        positive("query_pre_attn_scalar", scalar)?;
        let model = fields.model(rope)?;
        let factors = Factors {
            embedding_is_tensor: true,
            embedding: (model.hidden_size as f32).sqrt(),
            attention: (model.head_dim as f64 / scalar).sqrt() as f32,
            ..model.factors
        };
        let biases = fields.biases(&["attention_bias"])?;
        Ok(ModelConfig { biases, factors, norms: NormPlacement::BeforeAndAfter, norm_plus_one: true, ..model })
    }
}
