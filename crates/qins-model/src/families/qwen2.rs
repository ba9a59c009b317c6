//! Qwen2 and Qwen2.5: Llama with biases of q, k and v. The later blocks may have a sliding window.

use qins_quant::json;
use serde::Deserialize;
use serde_json::Value;

use crate::{Biases, ModelConfig, config::Fields};

/// Which blocks have a sliding window, where `layer_types` does not say it.
#[derive(Deserialize)]
pub(super) struct Window {
    #[serde(default)]
    pub(super) use_sliding_window: bool,
    #[serde(default = "all")]
    max_window_layers: usize,
}

impl Window {
    /// Reads it; without `use_sliding_window` the file's `sliding_window` is not used.
    pub(super) fn of(config: &Value, fields: &mut Fields) -> Result<Self, String> {
        let window: Self = json::typed(config)?;
        fields.assume_window(config);
        fields.sliding_window = fields.sliding_window.filter(|_| window.use_sliding_window);
        Ok(window)
    }

    /// Whether a block has the window.
    pub(super) fn slides(&self, layer: usize) -> bool {
        self.use_sliding_window && layer >= self.max_window_layers
    }
}

/// What Transformers assumes.
fn all() -> usize {
    28
}

pub(super) fn describe(config: &Value, mut fields: Fields) -> Result<ModelConfig, String> {
    let window = Window::of(config, &mut fields)?;
    fields.assume_kv_heads(config, 32)?;
    let layers = fields.windows(|layer| window.slides(layer))?;
    let biases = Biases { qkv: true, ..fields.biases(&[])? };
    Ok(ModelConfig { layers, biases, ..fields.model(fields.rope(10_000.0)?)? })
}
