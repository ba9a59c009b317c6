//! End-of-text token ids.

use qins_quant::checkpoint::Files;
use serde::Deserialize;

use crate::{Error, ModelConfig, config::OneOrMany};

/// The end-of-text token ids: those of `generation_config.json` if it has any, else those of `config.json`.
///
/// # Errors
/// When a file cannot be read.
pub fn stop_ids(files: &Files, config: &ModelConfig) -> Result<Vec<u32>, Error> {
    #[derive(Deserialize)]
    struct GenerationConfig {
        eos_token_id: Option<OneOrMany>,
    }
    const FILE: &str = "generation_config.json";
    let named = if files.contains(FILE) { files.read_json::<GenerationConfig>(FILE)?.eos_token_id } else { None };
    Ok(named.map_or_else(|| config.eos_token_ids.clone(), OneOrMany::into_vec))
}
