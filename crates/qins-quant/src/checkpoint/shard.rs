//! One safetensors file.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

use safetensors::{
    SafeTensors,
    tensor::{Metadata, TensorInfo},
};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    Dtype, Files, OpenFile, QuantizationConfig,
    header::{OwnMetadata, hex},
    layout::QUANT_METHOD,
};
use crate::{Error, json};

/// A mapped safetensors file with its parsed header, and checksums if [`ShardWriter`](super::ShardWriter) wrote it.
#[derive(Debug)]
pub struct Shard {
    pub(super) path: PathBuf,
    data: OpenFile,
    /// The offset of the tensors' bytes.
    start: usize,
    header: Metadata,
    own: OwnMetadata,
}

impl Shard {
    /// Maps and checks a file: the header must be valid, and its tensors must tile the remaining bytes exactly.
    ///
    /// # Errors
    /// When the file is missing or invalid.
    pub fn open(files: &Files, name: &str) -> Result<Self, Error> {
        let path = files.path(name);
        let data = files.open(name)?;
        let (header_len, header) = header(&path, &data)?;
        let own = match header.metadata().as_ref().and_then(|metadata| metadata.get(QUANT_METHOD)) {
            None => OwnMetadata::default(),
            Some(text) => json::parse(text.as_bytes())
                .and_then(|value| json::typed(&value))
                .map_err(|e| Error::file(&path, format!("metadata `{QUANT_METHOD}`: expected checksums: {e}")))?,
        };
        Ok(Self { path, data, start: header_len + 8, header, own })
    }

    /// The names of the tensors of any safetensors file, in file order.
    ///
    /// # Errors
    /// When the file is missing, or not in safetensors.
    pub fn names_in(files: &Files, name: &str) -> Result<Vec<String>, Error> {
        let (_, header) = header(&files.path(name), &files.open(name)?)?;
        Ok(header.offset_keys())
    }

    /// The `quantization_config` in its metadata, if there is one.
    pub(super) fn quantization(&self) -> Result<Option<QuantizationConfig>, Error> {
        let Some(value) = &self.own.quantization_config else { return Ok(None) };
        QuantizationConfig::parse(value)
            .map(Some)
            .map_err(|e| Error::file(&self.path, format!("metadata `{QUANT_METHOD}`: quantization_config: {e}")))
    }

    /// The metadata of its header, without this crate's own.
    pub(super) fn metadata(&self) -> BTreeMap<String, String> {
        let all = self.header.metadata().iter().flatten().filter(|(key, _)| *key != QUANT_METHOD);
        all.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// As [`Checkpoint::release`](super::Checkpoint::release).
    pub(super) fn release(&self) {
        self.data.release();
    }

    /// Its tensors, in file order.
    pub fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    /// Whether a tensor's bytes match its checksum; `None` if the file has none.
    pub fn is_intact(&self, name: &str) -> Option<bool> {
        let (_, _, bytes) = self.get(name)?;
        Some(*self.own.xxh3.get(name)? == hex(xxh3_64(bytes)))
    }

    /// Tensors that have a checksum but are missing.
    pub(super) fn missing_tensors(&self) -> impl Iterator<Item = &str> {
        self.own.xxh3.keys().filter(|name| self.header.info(name).is_none()).map(String::as_str)
    }

    /// The range of a tensor's bytes in the file.
    pub(super) fn range(&self, name: &str) -> Option<Range<usize>> {
        let TensorInfo { data_offsets: (from, to), .. } = self.header.info(name)?;
        Some(self.start + from..self.start + to)
    }

    /// A tensor's type, shape and bytes.
    pub fn get(&self, name: &str) -> Option<(Dtype, &[usize], &[u8])> {
        let TensorInfo { dtype, shape, .. } = self.header.info(name)?;
        Some((Dtype::of(*dtype), shape, &self.data[self.range(name)?]))
    }
}

/// The length of a file's header, and the header.
fn header(path: &Path, data: &[u8]) -> Result<(usize, Metadata), Error> {
    SafeTensors::read_metadata(data).map_err(|e| {
        let found = data.len();
        Error::file(path, format!("expected a complete safetensors file, found {found} bytes that are not one ({e:?})"))
    })
}
