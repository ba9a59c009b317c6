//! One encoded matrix in its own file: the tensors and checksums of a checkpoint's shard, with the
//! `quantization_config` in the metadata.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    Checkpoint, Coding, FORMAT_VERSION, Files, Group, QuantizationConfig, ShardWriter, header::Extra,
    layout::QUANT_METHOD, matrix::MatrixWriter, reader::Contents, shard::Shard,
};
use crate::{EncodedTensor, Error, output::Output};

/// The name of the matrix.
const MODULE: &str = "matrix";

impl EncodedTensor {
    /// Writes the matrix to a safetensors file, as an [`Output`]: complete or not at all; an existing file is replaced. Missing
    /// folders are created.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        path.parent().map_or(Ok(()), fs::create_dir_all).map_err(Error::io(path))?;
        let output = Output::open(path)?;
        let draft = output.draft()?;
        let coded = self.scheme().is_storage_only();
        let group = Group {
            targets: vec![MODULE.to_owned()],
            scheme: self.scheme(),
            source_dtype: self.source(),
            alpha: self.format().alpha().map(qins_codec::Alpha::get),
            coding: coded.then_some(Coding::Pco),
        };
        let quantization = QuantizationConfig {
            quant_method: QUANT_METHOD.to_owned(),
            format_version: FORMAT_VERSION,
            config_groups: [("group_0".to_owned(), group)].into(),
            ignore: Vec::new(),
            fused: Default::default(),
            copies: Default::default(),
            output_sqnr_db: Default::default(),
            goal: None,
        };
        let mut matrix = MatrixWriter::new(MODULE, &self.format(), self.shape()[0], coded);
        let [tensors, streams] = matrix.specs();
        let extra = Extra { quantization: Some(quantization), ..Extra::default() };
        let mut out = ShardWriter::with_extra(draft.path(), path.to_owned(), tensors, streams, extra)?;
        matrix.push(self, &mut out)?;
        matrix.finish(&mut out)?;
        out.finish()?;
        output.commit(draft)
    }

    /// Reads a matrix that [`save`](Self::save) wrote, and compares every tensor with its checksum.
    ///
    /// # Errors
    /// When the file is missing, damaged, not such a file, or in a newer format.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
            return Err(Error::file(path, "expected the name of a file, found none"));
        };
        let parent = if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() };
        let files = Files::Directory(parent);
        let shard = Shard::open(&files, name)?;
        let quantization = shard.quantization()?;
        let contents = Contents { config: serde_json::Value::Null, config_path: path.to_owned(), quantization };
        let checkpoint = Checkpoint::of_shards(files, contents, vec![(name.to_owned(), shard)])?;
        if !checkpoint.encoded_modules().eq([MODULE]) {
            let found: Vec<&str> = checkpoint.encoded_modules().collect();
            let message = format!("expected one encoded matrix, `{MODULE}`, in its metadata, found {found:?}");
            return Err(Error::file(path, message));
        }
        let encoded = checkpoint.encoded(MODULE)?;
        let names = checkpoint.tensors_of_module(MODULE)?;
        if let Some(other) = checkpoint.tensors().find(|tensor| !names.iter().any(|name| name == tensor)) {
            return Err(Error::tensor(path, other, "expected the tensors of one matrix, found another"));
        }
        Ok(encoded)
    }
}
