//! Models' shapes without their weights.

use std::{fs, path::Path};

use qins_quant::json;
use serde_json::{Map, Value};

/// The config.json of Phi-3.5-mini-instruct.
const PHI: (&str, &str) = ("phi-3.5-mini", include_str!("../assets/phi-3.5-mini.json"));

/// The sizes of other models by name, from their published configurations.
const OTHERS: &str = include_str!("../assets/shapes.json");

/// Lists with an entry for each block.
const BY_BLOCK: [&str; 2] = ["layer_types", "no_rope_layers"];

/// The content of a `config.json`, or of that of a model that is built in; with `blocks` blocks, if given.
///
/// # Errors
/// When the name is neither, or the file is no JSON object.
pub(crate) fn shapes(name: &Path, blocks: Option<u16>) -> Result<Value, String> {
    let mut config = read(name).map_err(|e| format!("{}: {e}", name.display()))?;
    if let Some(blocks) = blocks {
        config["num_hidden_layers"] = blocks.into();
        for field in BY_BLOCK {
            if let Some(list) = config.get_mut(field).and_then(Value::as_array_mut) {
                list.truncate(blocks.into());
            }
        }
    }
    Ok(config)
}

fn read(name: &Path) -> Result<Value, String> {
    let built_in = built_in()?;
    if let Some(config) = name.to_str().and_then(|name| built_in.get(name)) {
        return Ok(config.clone());
    }
    let names = || built_in.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let bytes = fs::read(name).map_err(|e| format!("expected a config.json or one of {}: {e}", names()))?;
    json::object(&bytes)
}

fn built_in() -> Result<Map<String, Value>, String> {
    let mut all: Map<String, Value> = json::typed(&json::object(OTHERS.as_bytes())?)?;
    all.insert(PHI.0.to_owned(), json::object(PHI.1.as_bytes())?);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use qins_model::{ModelConfig, ModelTensor, tensors};

    use super::*;

    /// Weights in billions, as published with each model.
    const WEIGHTS: [(&str, f64); 11] = [
        ("gemma-3-1b", 1.00),
        ("gemma-3-270m", 0.268),
        ("llama-3.1-8b", 8.03),
        ("llama-3.2-1b", 1.24),
        ("llama-3.2-3b", 3.21),
        ("mistral-7b", 7.25),
        ("phi-3.5-mini", 3.82),
        ("qwen3-0.6b", 0.596),
        ("qwen3-4b", 4.02),
        ("smollm2-1.7b", 1.71),
        ("smollm2-135m", 0.135),
    ];

    #[test]
    fn built_in_models_have_their_published_numbers_of_weights() {
        assert_eq!(built_in().unwrap().len(), WEIGHTS.len());
        for (name, billions) in WEIGHTS {
            let config = ModelConfig::parse(&shapes(Path::new(name), None).unwrap(), Path::new(name)).unwrap();
            let count = |tensor: &ModelTensor| match tensor {
                ModelTensor::Linear(spec) => spec.shape[0] * spec.shape[1],
                ModelTensor::Bias(spec) | ModelTensor::Norm(spec) => spec.width,
            };
            let found = tensors(&config).iter().map(count).sum::<usize>() as f64 / 1e9;
            assert!((found / billions - 1.0).abs() < 0.005, "{name}: {found}, published {billions}");
        }
    }

    #[test]
    fn fewer_blocks_have_shorter_lists() {
        let dir = tempfile::TempDir::new().unwrap();
        let file = dir.path().join("config.json");
        fs::write(&file, r#"{ "num_hidden_layers": 4, "no_rope_layers": [1, 1, 1, 0] }"#).unwrap();
        assert_eq!(shapes(&file, Some(2)).unwrap().to_string(), r#"{"no_rope_layers":[1,1],"num_hidden_layers":2}"#);
    }
}
