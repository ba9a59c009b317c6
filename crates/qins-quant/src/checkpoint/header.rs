//! The header of a safetensors file to write.

use std::collections::BTreeMap;

use safetensors::tensor::TensorInfo;
use serde::{Serialize, Serializer};

use super::layout::QUANT_METHOD;

/// The value of the key `qins` in a shard's metadata, JSON in one string: with a single key besides `format`, the
/// bytes of the file are reproducible.
#[derive(Clone, Debug, Default, Serialize, serde::Deserialize)]
pub(super) struct OwnMetadata {
    /// XXH3 of each tensor's bytes, in 16 hexadecimal digits.
    pub(super) xxh3: BTreeMap<String, String>,
    /// The encoded modules, in a file without a `config.json`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) quantization_config: Option<serde_json::Value>,
}

/// XXH3 in hexadecimal.
pub(super) fn hex(hash: u64) -> String {
    format!("{hash:016x}")
}

#[derive(Serialize)]
#[serde(untagged)]
enum Entry<'a> {
    Metadata(BTreeMap<&'static str, &'a str>),
    Tensor(&'a TensorInfo),
}

struct Header<'a>(Vec<(&'a str, Entry<'a>)>);

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, entry)| (name, entry)))
    }
}

/// The JSON of a header, in the given order.
pub(super) fn header(tensors: &[(String, TensorInfo)], own: &OwnMetadata) -> serde_json::Result<Vec<u8>> {
    let own = serde_json::to_string(own)?;
    let metadata = BTreeMap::from([("format", "pt"), (QUANT_METHOD, own.as_str())]);
    let mut entries = vec![("__metadata__", Entry::Metadata(metadata))];
    entries.extend(tensors.iter().map(|(name, info)| (name.as_str(), Entry::Tensor(info))));
    serde_json::to_vec(&Header(entries))
}
