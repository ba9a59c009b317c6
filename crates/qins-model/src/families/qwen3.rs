//! Qwen3: Llama with norms of each head of queries and keys. The later blocks may have a sliding window.

use serde_json::Value;

use crate::{ModelConfig, QkNorm, config::Fields, families::qwen2::Window};

pub(super) fn describe(config: &Value, mut fields: Fields) -> Result<ModelConfig, String> {
    let window = Window::of(config, &mut fields)?;
    fields.assume_kv_heads(config, 32)?;
    let layers = fields.windows(|layer| window.slides(layer))?;
    fields.head_dim.get_or_insert(128);
    let biases = fields.biases(&["attention_bias"])?;
    Ok(ModelConfig { layers, biases, qk_norm: QkNorm::PerHead, ..fields.model(fields.rope(10_000.0)?)? })
}
