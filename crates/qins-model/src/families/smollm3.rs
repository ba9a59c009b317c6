//! SmolLM3: Llama with every fourth block without rotation.

use qins_quant::json;
use serde::Deserialize;
use serde_json::Value;

use crate::{LayerRope, ModelConfig, config::Fields, families::qwen2::Window};

/// Which blocks have no rotation.
#[derive(Deserialize)]
struct NoRope {
    no_rope_layers: Option<Vec<u8>>,
    #[serde(default = "fourth")]
    no_rope_layer_interval: usize,
}

/// What Transformers assumes.
fn fourth() -> usize {
    4
}

pub(super) fn describe(config: &Value, mut fields: Fields) -> Result<ModelConfig, String> {
    let NoRope { no_rope_layers, no_rope_layer_interval } = json::typed(config)?;
    let window: Window = json::typed(config)?;
    fields.sliding_window = fields.sliding_window.filter(|_| window.use_sliding_window);
    fields.assume_kv_heads(config, 4)?;
    let n = fields.num_hidden_layers;
    if no_rope_layers.as_ref().is_some_and(|layers| layers.len() != n) {
        let found = no_rope_layers.map_or(0, |layers| layers.len());
        return Err(format!("expected no_rope_layers of {n} blocks, found {found}"));
    }
    if no_rope_layer_interval == 0 || no_rope_layers.iter().flatten().any(|flag| *flag > 1) {
        return Err(
            "expected no_rope_layers of 0 and 1, and a no_rope_layer_interval of at least 1, found others".to_owned()
        );
    }
    // Only blocks without rotation have a window. A 1 is a block with rotation, despite the name.
    let rotates = |layer: usize| match &no_rope_layers {
        Some(layers) => layers[layer] != 0,
        None => !(layer + 1).is_multiple_of(no_rope_layer_interval),
    };
    let mut layers = fields.windows(|layer| !rotates(layer))?;
    for (_, layer) in layers.iter_mut().enumerate().filter(|(i, _)| !rotates(*i)) {
        layer.rope = LayerRope::None;
    }
    fields.tie_word_embeddings.get_or_insert(true);
    Ok(ModelConfig {
        layers,
        biases: fields.biases(&["attention_bias", "mlp_bias"])?,
        ..fields.model(fields.rope(2_000_000.0)?)?
    })
}
