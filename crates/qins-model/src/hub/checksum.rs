//! Whether bytes are those that were announced.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use serde::{Deserialize, de::IgnoredAny};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The longest header that a safetensors file may have.
const HEADER: u64 = 100_000_000;

/// A file's SHA-256, or where 40 digits are wanted the SHA-1 of a git blob.
pub(super) fn checksum(path: &Path, digits: usize) -> io::Result<String> {
    fn digest<D: Digest + Write>(mut digest: D, file: &mut File) -> io::Result<String> {
        io::copy(file, &mut digest)?;
        Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
    let mut file = File::open(path)?;
    match digits {
        40 => digest(Sha1::new_with_prefix(format!("blob {}\0", file.metadata()?.len())), &mut file),
        _ => digest(Sha256::new(), &mut file),
    }
}

/// The bytes that a safetensors file has by its header; `None` where that is no header.
pub(super) fn announced_size(path: &Path) -> io::Result<Option<u64>> {
    #[derive(Deserialize)]
    struct Header {
        #[serde(rename = "__metadata__")]
        _metadata: Option<IgnoredAny>,
        #[serde(flatten)]
        tensors: BTreeMap<String, Tensor>,
    }
    #[derive(Deserialize)]
    struct Tensor {
        data_offsets: [u64; 2],
    }
    let mut file = File::open(path)?;
    let mut length = [0; 8];
    if file.metadata()?.len() < 8 {
        return Ok(None);
    }
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let mut text = Vec::new();
    file.take(length.min(HEADER)).read_to_end(&mut text)?;
    let Ok(Header { tensors, .. }) = serde_json::from_slice(&text) else { return Ok(None) };
    let end = tensors.values().map(|tensor| tensor.data_offsets[1]).max().unwrap_or(0);
    Ok(length.checked_add(8).and_then(|start| start.checked_add(end)))
}
