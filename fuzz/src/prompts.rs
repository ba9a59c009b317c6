//! Bytes as a prompts file.

use std::{path::Path, sync::OnceLock};

use qins_eval::parse_prompts;
use qins_model::{ModelConfig, TextReader};
use qins_quant::json;

use crate::text::{TOKENIZER, files};

/// What reads prompts.
fn reader() -> &'static (TextReader, ModelConfig) {
    static READER: OnceLock<(TextReader, ModelConfig)> = OnceLock::new();
    READER.get_or_init(|| {
        let config = include_bytes!("../../tests/fixtures/families/mistral/config.json");
        let config = json::object(config).expect("a fixture");
        let config = ModelConfig::parse(&config, Path::new("config.json")).expect("a fixture");
        (TextReader::open(&files(&[("tokenizer.json", TOKENIZER.as_bytes())])).expect("a tokenizer"), config)
    })
}

/// Every prompt that is read can be continued by the model.
///
/// # Panics
/// When one cannot.
pub fn run(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let (reader, config) = reader();
    let Ok(prompts) = parse_prompts(text, "prompts.jsonl", reader, config) else { return false };
    for prompt in &prompts {
        assert!(prompt.check(config).is_ok(), "a prompt that the model cannot read");
    }
    !prompts.is_empty()
}

/// A prompt of each kind.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let lines = [
        r#"{ "id": "text", "prompt": "The capital of", "max_new_tokens": 8 }"#,
        r#"{ "messages": [{ "role": "system", "content": "is" }, { "role": "user", "content": "of" }], "category": "talk" }"#,
        r#"{ "id": 7, "input_ids": [3, 4, 5], "expected_ids": [6] }"#,
    ];
    let kinds = ["prompt", "messages", "ids"].into_iter().zip(lines);
    let alone = kinds.map(|(name, line)| (name.to_owned(), line.as_bytes().to_vec()));
    alone.filter(|(_, line)| run(line)).collect()
}
