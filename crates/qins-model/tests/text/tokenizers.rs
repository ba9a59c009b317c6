//! Tokenizers to test with: those of the fixtures, and small ones of other kinds.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use qins_model::Tokenizer;
use qins_quant::checkpoint::Files;
use serde_json::{Value, json};

/// The files of a directory of the repository.
pub(crate) fn directory(path: &str) -> Files {
    Files::Directory(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path))
}

/// Files in memory.
pub(crate) fn files(named: &[(&str, Value)]) -> Files {
    let bytes = |value: &Value| match value {
        Value::String(text) => Arc::from(text.as_bytes()),
        other => Arc::from(other.to_string().as_bytes()),
    };
    let files: BTreeMap<String, Arc<[u8]>> = named.iter().map(|(n, v)| ((*n).to_owned(), bytes(v))).collect();
    Files::Memory(Arc::new(files))
}

/// Byte-level BPE.
pub(crate) const ATLAS: &str = "crates/qins/assets/atlas";
/// BPE of characters with byte tokens, as in sentencepiece.
pub(crate) const PHI3: &str = "tests/fixtures/phi3-tokenizer";

/// A tokenizer of words, of which the first two are special, with a decoder, and other parts in place of none.
pub(crate) fn words(words: &[&str], decoder: Value, parts: &[(&str, Value)]) -> Value {
    let vocab: BTreeMap<&str, usize> = words.iter().enumerate().map(|(id, word)| (*word, id)).collect();
    let special = |id: usize| {
        json!({ "id": id, "content": words[id], "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true })
    };
    let mut all = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [special(0), special(1)],
        "normalizer": null, "pre_tokenizer": { "type": "WhitespaceSplit" }, "post_processor": null, "decoder": decoder,
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": words[0] },
    });
    for (name, part) in parts {
        all[name] = part.clone();
    }
    all
}

/// A post-processor that puts ids around a text.
pub(crate) fn around(before: &[(&str, u32)], after: &[(&str, u32)]) -> Value {
    let special = |(name, _): &(&str, u32)| json!({ "SpecialToken": { "id": name, "type_id": 0 } });
    let text = json!({ "Sequence": { "id": "A", "type_id": 0 } });
    let single: Vec<Value> = before.iter().map(special).chain([text]).chain(after.iter().map(special)).collect();
    let tokens: BTreeMap<&str, Value> = before
        .iter()
        .chain(after)
        .map(|(name, id)| (*name, json!({ "id": name, "ids": [id], "tokens": [name] })))
        .collect();
    json!({ "type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": tokens })
}

pub(crate) fn open(tokenizer: Value) -> Tokenizer {
    Tokenizer::open(&files(&[("tokenizer.json", tokenizer)])).unwrap()
}

/// A tokenizer of each kind: a name, the tokenizer, and the size of its vocabulary.
pub(crate) fn all() -> Vec<(&'static str, Tokenizer, u32)> {
    let plain = ["<s>", "</s>", "un", "##able", "do", "n't", ".", "'", "s", "\u{fffd}", "é", "##!"];
    let space = "\u{2581}";
    let bytes: Vec<String> = (0xe0..=0xf0).chain(0x80..=0x90).chain([0x0a]).map(|b| format!("<0x{b:02X}>")).collect();
    let pieces = ["<s>", "</s>", "\u{2581}", "\u{2581}\u{2581}", "\u{2581}a", "b", "\u{2581}\u{2581}c", "\u{fffd}"];
    let with_bytes: Vec<&str> = pieces.iter().copied().chain(bytes.iter().map(String::as_str)).collect();
    let sentencepiece = json!({ "type": "Sequence", "decoders": [
        { "type": "Replace", "pattern": { "String": space }, "content": " " }, { "type": "ByteFallback" },
        { "type": "Fuse" }, { "type": "Strip", "content": " ", "start": 1, "stop": 0 } ] });
    let metaspace = json!({ "type": "Metaspace", "replacement": space, "prepend_scheme": "always", "split": true });
    let kinds = [
        ("wordpiece", &plain[..], json!({ "type": "WordPiece", "prefix": "##", "cleanup": true })),
        ("none", &plain[..], Value::Null),
        ("byte fallback", &with_bytes[..], sentencepiece),
        ("metaspace", &pieces[..], metaspace),
    ];
    let fixture = |path| Tokenizer::open(&directory(path)).unwrap();
    let small = kinds.map(|(name, vocab, decoder)| (name, open(words(vocab, decoder, &[])), vocab.len() as u32 + 1));
    [("atlas", fixture(ATLAS), 1100), ("phi3", fixture(PHI3), 32_020), ("phi3 bytes", fixture(PHI3), 300)]
        .into_iter()
        .chain(small)
        .collect()
}
