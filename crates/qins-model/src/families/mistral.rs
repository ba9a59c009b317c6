//! Mistral: Llama with a sliding window in every block, where the file has one.

use serde_json::Value;

use crate::{ModelConfig, config::Fields};

pub(super) fn describe(config: &Value, mut fields: Fields) -> Result<ModelConfig, String> {
    fields.assume_window(config);
    fields.assume_kv_heads(config, 8)?;
    let layers = fields.windows(|_| true)?;
    Ok(ModelConfig { layers, biases: fields.biases(&[])?, ..fields.model(fields.rope(10_000.0)?)? })
}
