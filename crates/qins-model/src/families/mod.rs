//! The families of models that load, by the `model_type` of their `config.json`. A family is one file here, and one line of the list.

mod gemma;
mod gemma2;
mod gemma3;
mod granite;
mod llama;
mod mistral;
mod olmo2;
mod phi3;
mod qwen2;
mod qwen3;
mod smollm3;

use serde_json::Value;

use crate::{ModelConfig, Rope, config::Fields};

/// Describes a model from its `config.json`, whose common fields are read already.
type Describe = fn(&Value, Fields) -> Result<ModelConfig, String>;

/// Every family.
const FAMILIES: [(&str, Describe); 10] = [
    ("gemma2", gemma2::describe),
    ("gemma3_text", gemma3::describe),
    ("granite", granite::describe),
    ("llama", llama::describe),
    ("mistral", mistral::describe),
    ("olmo2", olmo2::describe),
    ("phi3", phi3::describe),
    ("qwen2", qwen2::describe),
    ("qwen3", qwen3::describe),
    ("smollm3", smollm3::describe),
];

/// The `model_type`s that load.
pub fn families() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|(name, _)| *name)
}

/// The model that a `config.json` describes.
///
/// # Errors
/// When its family is not supported, or a field is missing, out of range or contradicts another.
pub(crate) fn describe(config: &Value) -> Result<ModelConfig, String> {
    let found = config.get("model_type").and_then(Value::as_str).unwrap_or("none");
    let Some((_, describe)) = FAMILIES.iter().find(|(name, _)| *name == found) else {
        let names = families().collect::<Vec<_>>().join(", ");
        return Err(format!(
            "expected one of the model_types {names}, found `{found}` (docs/families.md says how to add one)"
        ));
    };
    let model = describe(config, Fields::of(config)?)?;
    // Each setting may be valid by itself, and their quotient beyond f32.
    let ropes = [Some(&model.rope), model.local_rope.as_ref()];
    for rope in ropes.into_iter().flatten() {
        if let Some(found) = Rope::new(rope).all_frequencies().find(|f| !f.is_finite()) {
            let theta = rope.theta;
            return Err(format!("expected finite rotation frequencies, found {found} with rope_theta {theta}"));
        }
    }
    Ok(model)
}
