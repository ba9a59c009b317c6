//! Mistral: Llama with a sliding window in every block, where the file has one.

use serde_json::Value;

use crate::{ModelConfig, config::Fields};

pub(super) fn describe(_: &Value, fields: Fields) -> Result<ModelConfig, String> {
    let layers = fields.windows(|_| fields.sliding_window.is_some())?;
    Ok(ModelConfig { layers, biases: fields.biases(&[])?, ..fields.model(fields.rope(10_000.0)?)? })
}
