//! End-of-text token ids.

use qins_quant::checkpoint::Files;
use serde::Deserialize;
use serde_json::Value;

use crate::{Error, ModelConfig};

const FILE: &str = "generation_config.json";

const FIELD: &str = "eos_token_id";

const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

const TOKENIZER: &str = "tokenizer.json";

/// The end-of-text token ids: those of `generation_config.json` if it has any, else those of `config.json`; and the `eos_token` of
/// `tokenizer_config.json`, which ends a turn where the other files only know the end of a document. With an empty list in
/// `generation_config.json` there are none.
///
/// # Errors
/// When a file is there and cannot be read, or names an id that is not of the vocabulary.
pub fn stop_ids(files: &Files, config: &ModelConfig) -> Result<Vec<u32>, Error> {
    let named = if files.contains(FILE) {
        let settings: Value = files.read_json(FILE)?;
        let named = token_ids(FIELD, &settings[FIELD], config.vocab_size);
        named.map_err(|message| Error::Config { path: files.path(FILE), message })?
    } else {
        None
    };
    if named.as_ref().is_some_and(Vec::is_empty) {
        return Ok(Vec::new());
    }
    let mut ids = named.unwrap_or_else(|| config.eos_token_ids.clone());
    // A tokenizer may have more tokens than the model.
    ids.extend(eos_token(files)?.filter(|id| (*id as usize) < config.vocab_size && !ids.contains(id)));
    Ok(ids)
}

/// The part of a `tokenizer.json` that gives special tokens their ids.
#[derive(Deserialize)]
struct Tokens {
    #[serde(default)]
    added_tokens: Vec<Token>,
}

#[derive(Deserialize)]
struct Token {
    id: u32,
    content: String,
}

/// The id of the tokenizer's `eos_token`. What is no token is none here; a chat template that needs it says what is wrong.
fn eos_token(files: &Files) -> Result<Option<u32>, Error> {
    if !files.contains(TOKENIZER_CONFIG) || !files.contains(TOKENIZER) {
        return Ok(None);
    }
    let config: Value = files.read_json(TOKENIZER_CONFIG)?;
    let token = &config["eos_token"];
    let Some(text) = token.as_str().or_else(|| token.get("content")?.as_str()) else { return Ok(None) };
    let tokens: Tokens = serde_json::from_slice(&files.read(TOKENIZER)?)
        .map_err(|e| Error::Tokenizer { path: files.path(TOKENIZER), message: e.to_string() })?;
    Ok(tokens.added_tokens.into_iter().find(|token| token.content == text).map(|token| token.id))
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path, sync::Arc};

    use serde_json::json;

    use super::*;

    fn stops(config: Value, generation: Option<Value>, eos_token: Value) -> Vec<u32> {
        let sizes = json!({ "model_type": "llama", "vocab_size": 9, "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1,
            "num_attention_heads": 1, "max_position_embeddings": 9, "rms_norm_eps": 1e-6, "hidden_act": "silu",
            "eos_token_id": config });
        let tokens =
            [("<end>", 7), ("<turn>", 8), ("<beyond>", 9)].map(|(text, id)| json!({ "id": id, "content": text }));
        let named = [
            ("generation_config.json", generation),
            ("tokenizer_config.json", Some(json!({ "eos_token": eos_token }))),
            ("tokenizer.json", Some(json!({ "model": { "vocab": {} }, "added_tokens": tokens }))),
        ];
        let files: BTreeMap<String, Arc<[u8]>> = named
            .into_iter()
            .filter_map(|(name, file)| Some((name.to_owned(), file?.to_string().into_bytes().into())))
            .collect();
        let config = ModelConfig::parse(&sizes, Path::new("config.json")).unwrap();
        stop_ids(&Files::Memory(Arc::new(files)), &config).unwrap()
    }

    #[test]
    fn stop_ids_are_those_of_all_files() {
        let generation = |ids: Value| Some(json!({ "eos_token_id": ids }));
        assert_eq!(stops(json!(1), None, Value::Null), [1]);
        assert_eq!(stops(json!(1), generation(json!([2, 3])), Value::Null), [2, 3]);
        assert_eq!(stops(json!(1), generation(Value::Null), json!("<turn>")), [1, 8]);
        assert_eq!(stops(json!(1), generation(json!([7, 2])), json!({ "content": "<end>", "lstrip": false })), [7, 2]);
        assert_eq!(stops(Value::Null, None, json!("<end>")), [7]);
        // None: an empty list, a token beyond the model's vocabulary, an unknown one, no token at all.
        assert_eq!(stops(json!(1), generation(json!([])), json!("<end>")), [0; 0]);
        for eos_token in [json!("<beyond>"), json!("<other>"), json!(5)] {
            assert_eq!(stops(json!([]), None, eos_token), [0; 0]);
        }
    }
}
