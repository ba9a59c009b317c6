//! Phi-3, Phi-3.5 and Phi-4-mini: q, k and v are stored as one matrix, gate and up as one, and LongRoPE extends the context.

use serde_json::Value;

use crate::{
    ModelConfig,
    config::{Fields, RopeModel},
};

pub(super) fn describe(_: &Value, fields: Fields) -> Result<ModelConfig, String> {
    let layers = fields.windows(|_| true)?;
    let rope = fields.rope.settings(RopeModel { is_phi3: true, ..fields.rope_model(10_000.0)? })?;
    Ok(ModelConfig { layers, biases: fields.biases(&[])?, fused: true, ..fields.model(rope)? })
}
