//! One safetensors file.

use std::path::PathBuf;

use safetensors::{
    Dtype, SafeTensors,
    tensor::{Metadata, TensorInfo},
};

use super::{Files, OpenFile};
use crate::Error;

/// A mapped safetensors file with its parsed header.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) path: PathBuf,
    data: OpenFile,
    /// Where the tensors' bytes begin.
    start: usize,
    header: Metadata,
}

impl Shard {
    /// Maps and checks a file: the header must parse, and its tensors must tile the rest of the file exactly.
    pub(super) fn open(files: &Files, name: &str) -> Result<Self, Error> {
        let path = files.path(name);
        let data = files.open(name)?;
        let (header_len, header) = SafeTensors::read_metadata(&data).map_err(|e| {
            let found = data.len();
            Error::file(
                &path,
                format!("expected a complete safetensors file, found {found} bytes that are none ({e:?})"),
            )
        })?;
        Ok(Self { path, data, start: header_len + 8, header })
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    pub(super) fn get(&self, name: &str) -> Option<(Dtype, &[usize], &[u8])> {
        let TensorInfo { dtype, shape, data_offsets: (from, to) } = self.header.info(name)?;
        Some((*dtype, shape, &self.data[self.start + from..self.start + to]))
    }
}
