//! A repository: small files, weights in three shards, and files that no fetch needs.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

pub(crate) const NAME: &str = "owner/name";
/// The commit of `main`, and that of `v1`, whose `config.json` is another.
pub(crate) const MAIN: &str = "1111111111111111111111111111111111111111";
pub(crate) const V1: &str = "2222222222222222222222222222222222222222";

pub(crate) const INDEX: &str = "model.safetensors.index.json";
pub(crate) const SHARDS: [&str; 3] =
    ["model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"];
pub(crate) const NEEDED: [&str; 4] = ["config.json", "generation_config.json", INDEX, "special_tokens_map.json"];

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// The files at a commit.
pub(crate) fn files(commit: &str) -> Files {
    let map: BTreeMap<_, _> = SHARDS.iter().enumerate().map(|(i, shard)| (format!("w{i}"), shard)).collect();
    let mut files: Files = [
        ("config.json", format!("{{\"model_type\":\"none\",\"of\":\"{commit}\"}}")),
        ("generation_config.json", "{}".to_owned()),
        (INDEX, json!({ "weight_map": map }).to_string()),
        ("special_tokens_map.json", "{ }".to_owned()),
        ("README.md", "# A model".to_owned()),
        ("pytorch_model.bin", "pickled".to_owned()),
        ("stray.safetensors", "other weights".to_owned()),
    ]
    .map(|(name, text)| (name.to_owned(), text.into_bytes()))
    .into();
    files.extend(SHARDS.iter().enumerate().map(|(i, shard)| ((*shard).to_owned(), weights(i, 30_000 + i))));
    files
}

/// A safetensors file with one tensor.
fn weights(number: usize, length: usize) -> Vec<u8> {
    let tensor = json!({ "dtype": "U8", "shape": [length], "data_offsets": [0, length] });
    let header = json!({ "__metadata__": { "format": "pt" }, format!("w{number}"): tensor }).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.extend((0..length).map(|i| (i * 7 + i / 251 + number) as u8));
    file
}

fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".bin")
}

/// What the cache calls a file.
pub(crate) fn checksum(name: &str, content: &[u8]) -> String {
    if is_large(name) { hex(Sha256::digest(content)) } else { git(content) }
}

fn git(content: &[u8]) -> String {
    hex(Sha1::new_with_prefix(format!("blob {}\0", content.len())).chain_update(content).finalize())
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The topmost directory, as the hub lists it.
pub(crate) fn tree(files: &Files) -> Vec<Value> {
    let file = |(name, content): (&String, &Vec<u8>)| {
        let mut entry = json!({ "type": "file", "path": name, "size": content.len(), "oid": git(content) });
        if is_large(name) {
            let (oid, size) = (checksum(name, content), content.len());
            entry["oid"] = git(b"pointer").into();
            entry["lfs"] = json!({ "oid": oid, "size": size, "pointerSize": 135 });
            entry["xetHash"] = "0".repeat(64).into();
        }
        entry
    };
    let directory = json!({ "type": "directory", "path": "onnx", "size": 0, "oid": git(b"tree") });
    files.iter().map(file).chain([directory]).collect()
}
