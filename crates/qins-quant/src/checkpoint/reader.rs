//! Reading a checkpoint: the index, the shards, and plain tensors.

use std::{
    collections::BTreeMap,
    ops::{Deref, Range},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

use super::{
    Dtype, Files, OpenFile,
    layout::{QuantizationConfig, packed},
    shard::Shard,
    writer::TensorSpec,
};
use crate::{Error, FloatDtype};

pub(super) const CONFIG: &str = "config.json";
pub(crate) const SINGLE: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// Bytes of a tensor that are mapped at a time to look for what is not finite.
const PIECE: usize = 8 << 20;

/// An open checkpoint. Tensors are read on access.
#[derive(Debug)]
pub struct Checkpoint {
    files: Files,
    contents: Contents,
    shards: Vec<(String, Shard)>,
    /// Tensor name → shard.
    tensors: BTreeMap<String, usize>,
    /// Encoded module → group.
    pub(super) encoded: BTreeMap<String, String>,
}

/// A checkpoint's metadata.
#[derive(Debug)]
pub(super) struct Contents {
    /// `config.json`.
    pub(super) config: Value,
    /// The file it is from.
    pub(super) config_path: PathBuf,
    /// What is encoded.
    pub(super) quantization: Option<QuantizationConfig>,
}

/// A plain tensor, borrowed from its mapped file.
#[derive(Clone, Copy, Debug)]
pub struct Plain<'a> {
    /// Its type.
    pub dtype: FloatDtype,
    /// Its shape.
    pub shape: &'a [usize],
    /// Its elements, little-endian, row-major; not aligned.
    pub bytes: &'a [u8],
    /// The file it is in.
    pub path: &'a Path,
}

impl Plain<'_> {
    /// Its elements as `f32`.
    pub fn widen(&self) -> Vec<f32> {
        self.dtype.widen(self.bytes)
    }
}

/// Bytes of a file, in a mapping of their own.
#[derive(Debug)]
pub struct Mapped {
    file: OpenFile,
    range: Range<usize>,
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.file[self.range.clone()]
    }
}

/// The fault of bytes that do not match their checksum.
pub(crate) const DAMAGED: &str = "expected bytes that match their checksum, found others";

/// The fault of a tensor of an encoded checkpoint without a checksum.
pub(crate) const NO_CHECKSUM: &str = "expected a checksum in the file's metadata, found none";

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens a Hugging Face directory, sharded or not, encoded or not.
    ///
    /// # Errors
    /// When a file is missing, unreadable or incomplete, when shards and index disagree, or when the checkpoint is
    /// encoded by another method or in a newer format.
    pub fn open(files: Files) -> Result<Self, Error> {
        let config: Value = files.read_json(CONFIG)?;
        let quantization = quantization(&files, &config)?;
        let names = shard_names(&files)?;
        let shards = names.files.iter().map(|name| Ok((name.clone(), Shard::open(&files, name)?)));
        let shards = shards.collect::<Result<_, Error>>()?;
        let config_path = files.path(CONFIG);
        let checkpoint = Self::of_shards(files, Contents { config, config_path, quantization }, shards)?;
        for (tensor, file) in &names.map {
            if checkpoint.tensors.get(tensor).is_none_or(|&s| checkpoint.shards[s].0 != *file) {
                let message = format!("named by {INDEX}, but not in the file");
                return Err(Error::tensor(checkpoint.files.path(file), tensor, message));
            }
        }
        Ok(checkpoint)
    }

    /// From open shards, whose tensors must have distinct names and include those of every encoded module.
    pub(super) fn of_shards(files: Files, contents: Contents, shards: Vec<(String, Shard)>) -> Result<Self, Error> {
        let mut tensors = BTreeMap::new();
        for (i, (_, shard)) in shards.iter().enumerate() {
            for tensor in shard.names() {
                if let Some(other) = tensors.insert(tensor.clone(), i) {
                    let message = format!("expected once, found in {} as well", shards[other].0);
                    return Err(Error::tensor(&shard.path, tensor, message));
                }
            }
        }
        let mut encoded = BTreeMap::new();
        let config_path = &contents.config_path;
        for (name, group) in contents.quantization.iter().flat_map(|q| &q.config_groups) {
            for target in &group.targets {
                if !tensors.contains_key(&packed(target)) {
                    let message = format!("expected by quantization_config ({name}), found no such tensor");
                    return Err(Error::tensor(config_path, packed(target), message));
                }
                let plain = format!("{target}.weight");
                if tensors.contains_key(&plain) {
                    let message = format!("expected none, as {target} is encoded ({name}), found one");
                    return Err(Error::tensor(config_path, plain, message));
                }
                if let Some(other) = encoded.insert(target.clone(), name.clone()) {
                    let message = format!("quantization_config: expected {target} once, found in {other} and {name}");
                    return Err(Error::file(config_path, message));
                }
            }
        }
        Ok(Self { files, contents, shards, tensors, encoded })
    }

    /// Its files.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// The content of `config.json`.
    pub fn config(&self) -> &Value {
        &self.contents.config
    }

    /// The path of `config.json`, for messages.
    pub fn config_path(&self) -> PathBuf {
        self.contents.config_path.clone()
    }

    /// The `quantization_config`, if anything is encoded.
    pub fn quantization(&self) -> Option<&QuantizationConfig> {
        self.contents.quantization.as_ref()
    }

    /// The shards' file names, in order.
    pub fn shards(&self) -> impl Iterator<Item = &str> {
        self.shards.iter().map(|(name, _)| name.as_str())
    }

    /// The names of all stored tensors, sorted.
    pub fn tensors(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The names of one shard's tensors, sorted.
    pub fn tensors_of<'a>(&'a self, shard: &'a str) -> impl Iterator<Item = &'a str> {
        self.tensors.iter().filter(move |(_, s)| self.shards[**s].0 == shard).map(|(name, _)| name.as_str())
    }

    /// Bytes of all stored tensors.
    pub fn tensor_bytes(&self) -> usize {
        self.tensors().filter_map(|name| self.raw(name)).map(|(_, _, bytes)| bytes.len()).sum()
    }

    /// Any stored tensor: type, shape, bytes.
    pub fn raw(&self, name: &str) -> Option<(Dtype, &[usize], &[u8])> {
        self.shards[*self.tensors.get(name)?].1.get(name)
    }

    /// Gives the memory of what was read of the files back to the system, which otherwise counts it as this process's until it needs
    /// it. What is read again comes from the file, or its cache.
    pub fn release(&self) {
        self.shards.iter().for_each(|(_, shard)| shard.release());
    }

    /// The metadata of one shard's header, without `qins`.
    pub(crate) fn metadata_of(&self, shard: &str) -> BTreeMap<String, String> {
        let shard = self.shards.iter().find(|(name, _)| name == shard);
        shard.map(|(_, shard)| shard.metadata()).unwrap_or_default()
    }

    /// Whether a tensor of this name exists.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The file a tensor is in, or the first shard if it does not exist.
    pub fn path_of(&self, name: &str) -> &Path {
        let shard = self.tensors.get(name).copied().unwrap_or(0);
        self.shards.get(shard).map_or(Path::new(SINGLE), |(_, s)| &s.path)
    }

    /// A floating-point tensor.
    ///
    /// # Errors
    /// When it is missing or not of a floating-point type.
    pub fn plain(&self, name: &str) -> Result<Plain<'_>, Error> {
        let (dtype, shape, bytes) = self.require(name)?;
        let path = self.path_of(name);
        let float = FloatDtype::from_safetensors(dtype)
            .ok_or_else(|| Error::tensor(path, name, format!("expected F32, F16 or BF16, found {dtype:?}")))?;
        Ok(Plain { dtype: float, shape, bytes, path })
    }

    /// Checks that all elements of a tensor are finite; one that is not of a floating-point type has no others.
    ///
    /// # Errors
    /// Naming the first NaN or infinity; also when the tensor is missing.
    pub fn expect_finite(&self, name: &str) -> Result<(), Error> {
        let (dtype, _, bytes) = self.require(name)?;
        let Some(float) = FloatDtype::from_safetensors(dtype) else { return Ok(()) };
        // Piece by piece, so that a large tensor does not stay in memory.
        for from in (0..bytes.len()).step_by(PIECE) {
            let piece = self.mapped(name, from..bytes.len().min(from + PIECE))?;
            if let Some((index, value)) = float.first_non_finite(&piece) {
                let index = from / float.size() + index;
                let message = format!("expected finite weights, found {value} at element {index}");
                return Err(Error::tensor(self.path_of(name), name, message));
            }
        }
        Ok(())
    }

    /// Rows `rows` of a plain matrix of `cols` columns.
    ///
    /// # Errors
    /// When it is missing, not of a floating-point type, or not of shape `[total, cols]`.
    pub fn plain_rows(&self, name: &str, [total, cols]: [usize; 2], rows: Range<usize>) -> Result<Plain<'_>, Error> {
        let all = self.plain(name)?;
        if all.shape != [total, cols] {
            let message = format!("expected shape [{total}, {cols}], found {:?}", all.shape);
            return Err(Error::tensor(all.path, name, message));
        }
        if rows.start > rows.end || rows.end > total {
            return Err(Error::tensor(all.path, name, format!("expected rows {rows:?}, found {total} rows")));
        }
        let row = all.bytes.len() / total.max(1);
        Ok(Plain { bytes: &all.bytes[rows.start * row..rows.end * row], ..all })
    }

    pub(super) fn stored(&self, TensorSpec { name, dtype, shape }: &TensorSpec) -> Result<&[u8], Error> {
        let (found_dtype, found_shape, _) = self.require(name)?;
        if (found_dtype, found_shape) != (*dtype, shape) {
            let message =
                format!("expected {dtype:?} of shape {shape:?}, found {found_dtype:?} of shape {found_shape:?}");
            return Err(Error::tensor(self.path_of(name), name, message));
        }
        self.intact(name)
    }

    /// A tensor's bytes, after comparison with its checksum.
    ///
    /// # Errors
    /// When it is missing, has no checksum, or does not match it.
    pub fn intact(&self, name: &str) -> Result<&[u8], Error> {
        let (_, _, bytes) = self.require(name)?;
        match self.is_intact(name) {
            Some(true) => Ok(bytes),
            Some(false) => Err(Error::tensor(self.path_of(name), name, DAMAGED)),
            None => Err(Error::tensor(self.path_of(name), name, NO_CHECKSUM)),
        }
    }

    /// Whether a tensor's bytes match its checksum; `None` if the file has none, as in a plain checkpoint.
    pub fn is_intact(&self, name: &str) -> Option<bool> {
        self.shards[*self.tensors.get(name)?].1.is_intact(name)
    }

    /// Tensors that have a checksum but are missing, each with a file it should be in. A shard may have the checksums of all shards.
    pub(crate) fn missing_tensors(&self) -> impl Iterator<Item = (&Path, &str)> {
        let all = self.shards.iter().flat_map(|(_, shard)| shard.missing_tensors().map(|name| (&*shard.path, name)));
        all.filter(|(_, name)| !self.contains(name))
    }

    /// Some bytes of a tensor, in a mapping that is unmapped when they are dropped, so that a large file does not stay in
    /// memory.
    ///
    /// # Errors
    /// When the tensor is missing, has fewer bytes, or its file has changed.
    pub fn mapped(&self, name: &str, bytes: Range<usize>) -> Result<Mapped, Error> {
        self.require(name)?;
        let (file, shard) = &self.shards[self.tensors[name]];
        let whole = shard.range(name).unwrap_or_default();
        let range = whole.start + bytes.start..whole.start + bytes.end;
        let file = self.files.open(file)?;
        if bytes.start > bytes.end || range.end > whole.end || range.end > file.len() {
            let message = format!("expected bytes {bytes:?}, found {}; was the file changed?", whole.len());
            return Err(Error::tensor(&shard.path, name, message));
        }
        Ok(Mapped { file, range })
    }

    /// As [`raw`](Self::raw).
    ///
    /// # Errors
    /// When there is no such tensor.
    pub fn require(&self, name: &str) -> Result<(Dtype, &[usize], &[u8]), Error> {
        self.raw(name).ok_or_else(|| {
            let file = if let [(file, _)] = &*self.shards { file } else { INDEX };
            Error::tensor(self.files.path(file), name, "expected in the checkpoint, found no such tensor")
        })
    }
}

/// The shard files, and the index of which tensor is in which.
struct ShardNames {
    files: Vec<String>,
    map: BTreeMap<String, String>,
}

fn shard_names(files: &Files) -> Result<ShardNames, Error> {
    if files.contains(SINGLE) {
        return Ok(ShardNames { files: vec![SINGLE.to_owned()], map: BTreeMap::new() });
    }
    if !files.contains(INDEX) {
        return Err(Error::file(files.path(SINGLE), format!("not found, and no {INDEX} beside it")));
    }
    let Index { weight_map: map } = files.read_json(INDEX)?;
    let mut names: Vec<String> = map.values().cloned().collect();
    names.sort();
    names.dedup();
    if let Some(name) = names.iter().find(|name| Path::new(name).file_name().is_none_or(|n| n != name.as_str())) {
        return Err(Error::file(files.path(INDEX), format!("expected names of files beside it, found `{name}`")));
    }
    if names.is_empty() {
        return Err(Error::file(files.path(INDEX), "expected a weight_map naming shards, found none"));
    }
    Ok(ShardNames { files: names, map })
}

fn quantization(files: &Files, config: &Value) -> Result<Option<QuantizationConfig>, Error> {
    let Some(value) = config.get("quantization_config").filter(|v| !v.is_null()) else { return Ok(None) };
    QuantizationConfig::parse(value)
        .map(Some)
        .map_err(|message| Error::file(files.path(CONFIG), format!("quantization_config: {message}")))
}
