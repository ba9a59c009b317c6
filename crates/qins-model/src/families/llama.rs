//! Llama 1 to 3, and models of its shape: SmolLM2, TinyLlama, Yi.

use serde_json::Value;

use crate::{ModelConfig, config::Fields};

pub(super) fn describe(_: &Value, fields: Fields) -> Result<ModelConfig, String> {
    Ok(ModelConfig { biases: fields.biases(&["attention_bias", "mlp_bias"])?, ..fields.model(fields.rope(10_000.0)?)? })
}
