//! Bytes as a `config.json` with the description of a model.

use std::path::Path;

use qins_model::{ModelConfig, Rope, RopeRegime, tensors};
use qins_quant::json;

/// What is described is consistent: the rotations fit their heads, and the list of tensors can be made.
///
/// # Panics
/// When it is not.
pub fn run(bytes: &[u8]) -> bool {
    let Ok(config) = json::object(bytes) else { return false };
    let Ok(model) = ModelConfig::parse(&config, Path::new("config.json")) else { return false };
    for rope in [Some(&model.rope), model.local_rope.as_ref()].into_iter().flatten() {
        assert!(rope.rotary_dim <= model.head_dim && rope.rotary_dim.is_multiple_of(2));
        // A head of a million elements is allowed, and its table takes long.
        if rope.rotary_dim < 4096 {
            let tables = Rope::new(rope);
            for regime in [RopeRegime::Short, RopeRegime::Long] {
                assert_eq!(tables.frequencies(regime).len(), rope.rotary_dim / 2);
                assert!(tables.frequencies(regime).iter().all(|f| f.is_finite()));
            }
        }
    }
    assert!(model.num_attention_heads.is_multiple_of(model.num_key_value_heads));
    assert!(model.eos_token_ids.iter().all(|id| (*id as usize) < model.vocab_size));
    if model.layers.len() < 64 {
        assert!(tensors(&model).len() > 7 * model.layers.len());
    }
    true
}

/// The configurations of every family's fixture.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    [
        ("gemma2", &include_bytes!("../../tests/fixtures/families/gemma2/config.json")[..]),
        ("gemma3", include_bytes!("../../tests/fixtures/families/gemma3/config.json")),
        ("granite", include_bytes!("../../tests/fixtures/families/granite/config.json")),
        ("llama3", include_bytes!("../../tests/fixtures/families/llama3_rope/config.json")),
        ("yarn", include_bytes!("../../tests/fixtures/families/llama_yarn/config.json")),
        ("mistral", include_bytes!("../../tests/fixtures/families/mistral/config.json")),
        ("olmo2", include_bytes!("../../tests/fixtures/families/olmo2/config.json")),
        ("qwen2", include_bytes!("../../tests/fixtures/families/qwen2/config.json")),
        ("qwen3", include_bytes!("../../tests/fixtures/families/qwen3/config.json")),
        ("smollm3", include_bytes!("../../tests/fixtures/families/smollm3/config.json")),
        ("longrope", include_bytes!("../../tests/fixtures/phi3/c_longrope/f32/config.json")),
        ("longrope-hub", include_bytes!("../../tests/fixtures/phi3/c_longrope/f32/config.hub.json")),
    ]
    .map(|(name, config)| (name.to_owned(), config.to_vec()))
    .into()
}
