//! Granite 3: Llama with four constant factors.

use qins_quant::json;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    Factors, ModelConfig,
    config::{Fields, positive},
};

/// The factors' names; each is 1 where it is not given.
#[derive(Deserialize)]
#[serde(default)]
struct Multipliers {
    embedding_multiplier: f64,
    attention_multiplier: f64,
    residual_multiplier: f64,
    logits_scaling: f64,
}

impl Default for Multipliers {
    fn default() -> Self {
        Self { embedding_multiplier: 1.0, attention_multiplier: 1.0, residual_multiplier: 1.0, logits_scaling: 1.0 }
    }
}

pub(super) fn describe(config: &Value, fields: Fields) -> Result<ModelConfig, String> {
    let given: Multipliers = json::typed(config)?;
    let model = fields.model(fields.rope(10_000.0)?)?;
    let factors = Factors {
        embedding: positive("embedding_multiplier", given.embedding_multiplier)?,
        attention: positive("attention_multiplier", given.attention_multiplier)? * (model.head_dim as f32).sqrt(),
        residual: positive("residual_multiplier", given.residual_multiplier)?,
        logits: positive("logits_scaling", given.logits_scaling)?,
        ..model.factors
    };
    Ok(ModelConfig { factors, biases: fields.biases(&["attention_bias", "mlp_bias"])?, ..model })
}
