//! The header of a safetensors file to write.

use std::collections::BTreeMap;

use safetensors::tensor::TensorInfo;
use serde::{Serialize, Serializer};

use super::layout::{QUANT_METHOD, QuantizationConfig};

/// The value of the key `qins` in a shard's metadata, JSON in one string.
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
    Metadata(BTreeMap<&'a str, &'a str>),
    Tensor(&'a TensorInfo),
}

struct Header<'a>(Vec<(&'a str, Entry<'a>)>);

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, entry)| (name, entry)))
    }
}

/// What a header has besides the tensors and their checksums.
#[derive(Clone, Debug, Default)]
pub(super) struct Extra {
    /// The source's metadata, which is carried over.
    pub(super) metadata: BTreeMap<String, String>,
    /// The encoded modules, in a file without a `config.json`.
    pub(super) quantization: Option<QuantizationConfig>,
}

/// The JSON of a header, in the given order.
pub(super) fn header(
    tensors: &[(String, TensorInfo)],
    metadata: &BTreeMap<String, String>,
    own: &OwnMetadata,
) -> serde_json::Result<Vec<u8>> {
    let own = serde_json::to_string(own)?;
    let mut all = BTreeMap::from([("format", "pt")]);
    all.extend(metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    all.insert(QUANT_METHOD, &own);
    let mut entries = vec![("__metadata__", Entry::Metadata(all))];
    entries.extend(tensors.iter().map(|(name, info)| (name.as_str(), Entry::Tensor(info))));
    serde_json::to_vec(&Header(entries))
}
