//! End-of-text token ids.

use qins_quant::checkpoint::Files;
use serde_json::Value;

use crate::{Error, ModelConfig};

const FILE: &str = "generation_config.json";

const FIELD: &str = "eos_token_id";

/// The end-of-text token ids: those of `generation_config.json` if it has any, else those of `config.json`.
///
/// # Errors
/// When the file is there and cannot be read, or names an id that is not of the vocabulary.
pub fn stop_ids(files: &Files, config: &ModelConfig) -> Result<Vec<u32>, Error> {
    if !files.contains(FILE) {
        return Ok(config.eos_token_ids.clone());
    }
    let settings: Value = files.read_json(FILE)?;
    let named = token_ids(FIELD, &settings[FIELD], config.vocab_size);
    let named = named.map_err(|message| Error::Config { path: files.path(FILE), message })?;
    Ok(named.unwrap_or_else(|| config.eos_token_ids.clone()))
}

/// A field with a token id or a list of them; `None` for null.
pub(crate) fn token_ids(field: &str, value: &Value, vocabulary: usize) -> Result<Option<Vec<u32>>, String> {
    let id = |value: &Value| match value.as_u64().map(u32::try_from) {
        Some(Ok(id)) if (id as usize) < vocabulary => Ok(id),
        _ => Err(format!(
            "{field}: expected a token id or a list of them, each below vocab_size {vocabulary}, found {value}"
        )),
    };
    match value {
        Value::Null => Ok(None),
        Value::Array(ids) => ids.iter().map(id).collect::<Result<_, _>>().map(Some),
        one => id(one).map(|id| Some(vec![id])),
    }
}
