//! Writing a safetensors file whose tensors arrive in parts, some of a size known only at the end.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use safetensors::tensor::{Metadata, TensorInfo};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::{
    Dtype,
    header::{Extra, OwnMetadata, header, hex},
};
use crate::Error;

/// A tensor to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// Its type.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// Its size in bytes.
    pub fn bytes(&self) -> usize {
        // Saturates, so that the header of such a tensor is rejected.
        self.shape.iter().fold(self.dtype.bitsize(), |bits, &n| bits.saturating_mul(n)) / 8
    }
}

/// Writes a safetensors file. Tensors of known size come first, widest types first and then by name, so that
/// each is aligned; after them come the streams, in the order they were written. The header has the checksum of every
/// tensor; space for it is reserved from the start.
pub struct ShardWriter {
    file: File,
    path: PathBuf,
    /// The offset of the tensors' bytes, after the header's length and the header.
    start: usize,
    /// In file order.
    tensors: Vec<(String, TensorInfo)>,
    /// Bytes written of each tensor of known size.
    progress: HashMap<String, Progress>,
    /// Streams not written yet, and the maximum bytes of each.
    streams: HashMap<String, usize>,
    metadata: BTreeMap<String, String>,
    own: OwnMetadata,
}

struct Progress {
    /// Offsets of the next bytes and of the end, from the start of the data.
    next: usize,
    end: usize,
    hash: Box<Xxh3>,
}

impl fmt::Debug for ShardWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardWriter").field("path", &self.path).finish_non_exhaustive()
    }
}

impl ShardWriter {
    /// Begins a file at `at`, which messages call `path`, with tensors of known size and streams of at most the
    /// given sizes.
    ///
    /// # Errors
    /// When the file cannot be created, or two tensors have the same name.
    pub fn create(at: &Path, path: PathBuf, tensors: Vec<TensorSpec>, streams: Vec<TensorSpec>) -> Result<Self, Error> {
        Self::with_extra(at, path, tensors, streams, Extra::default())
    }

    /// As [`create`](Self::create), for a file with more in its metadata.
    pub(super) fn with_extra(
        at: &Path,
        path: PathBuf,
        mut tensors: Vec<TensorSpec>,
        streams: Vec<TensorSpec>,
        Extra { metadata, quantization }: Extra,
    ) -> Result<Self, Error> {
        tensors.sort_by(|a, b| b.dtype.bitsize().cmp(&a.dtype.bitsize()).then_with(|| a.name.cmp(&b.name)));
        // The longest possible header: every stream of its maximum size.
        let quantization_config =
            quantization.map(serde_json::to_value).transpose().map_err(|e| Error::file(&path, e))?;
        let own = OwnMetadata { quantization_config, ..OwnMetadata::default() };
        let (mut infos, mut longest) = (Vec::new(), own.clone());
        for spec in tensors.iter().chain(&streams) {
            if longest.xxh3.insert(spec.name.clone(), hex(u64::MAX)).is_some() {
                return Err(Error::tensor(&path, &spec.name, "expected once, found declared twice"));
            }
            let from = infos.last().map_or(0, |(_, info): &(_, TensorInfo)| info.data_offsets.1);
            let data_offsets = (from, from.saturating_add(spec.bytes()));
            infos.push((
                spec.name.clone(),
                TensorInfo { dtype: spec.dtype.get(), shape: spec.shape.clone(), data_offsets },
            ));
        }
        Metadata::new(None, infos.clone()).map_err(|e| Error::file(&path, format!("{e:?}")))?;
        let room = header(&infos, &metadata, &longest).map_err(|e| Error::file(&path, e))?.len().next_multiple_of(8);
        infos.truncate(tensors.len());
        let progress = infos.iter().map(|(name, info)| {
            let (next, end) = info.data_offsets;
            (name.clone(), Progress { next, end, hash: Box::new(Xxh3::new()) })
        });
        Ok(Self {
            file: File::create(at).map_err(Error::io(&path))?,
            path,
            start: 8 + room,
            progress: progress.collect(),
            tensors: infos,
            streams: streams.into_iter().map(|spec| (spec.name.clone(), spec.bytes())).collect(),
            metadata,
            own,
        })
    }

    /// Writes the next bytes of a tensor.
    ///
    /// # Errors
    /// When writing fails, the tensor was not declared, or it would exceed its size.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let room = self.progress.get(name).map(|p| p.end - p.next);
        let Some(progress) = self.progress.get_mut(name).filter(|p| p.end - p.next >= bytes.len()) else {
            let message = format!("expected {room:?} bytes more, found {}", bytes.len());
            return Err(Error::tensor(&self.path, name, message));
        };
        let at = self.start + progress.next;
        progress.next += bytes.len();
        progress.hash.update(bytes);
        self.write_at(at, bytes)
    }

    /// Appends a whole stream.
    ///
    /// # Errors
    /// When writing fails, or the stream was not declared, exceeds its maximum, or was written before.
    pub fn stream(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let most = self.streams.remove(name);
        if most.is_none_or(|most| bytes.len() > most) {
            let message = format!("expected a stream of {most:?} bytes at most, found {}", bytes.len());
            return Err(Error::tensor(&self.path, name, message));
        }
        let from = self.tensors.last().map_or(0, |(_, info)| info.data_offsets.1);
        let info =
            TensorInfo { dtype: Dtype::U8.get(), shape: vec![bytes.len()], data_offsets: (from, from + bytes.len()) };
        self.tensors.push((name.to_owned(), info));
        self.own.xxh3.insert(name.to_owned(), hex(xxh3_64(bytes)));
        self.write_at(self.start + from, bytes)
    }

    /// The file's path, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn write_at(&mut self, at: usize, bytes: &[u8]) -> Result<(), Error> {
        let seek = self.file.seek(SeekFrom::Start(at as u64));
        seek.and_then(|_| self.file.write_all(bytes)).map_err(Error::io(&self.path))
    }

    /// Writes the header and flushes the file to disk; returns the size of every tensor.
    ///
    /// # Errors
    /// When writing fails, or a declared tensor was not written completely.
    pub fn finish(mut self) -> Result<BTreeMap<String, usize>, Error> {
        let unfinished = self.progress.iter().filter(|(_, p)| p.next != p.end).map(|(name, _)| name);
        if let Some(name) = unfinished.chain(self.streams.keys()).min() {
            return Err(Error::tensor(&self.path, name, "expected to be written completely, found it unfinished"));
        }
        let hashes = self.progress.iter().map(|(name, p)| (name.clone(), hex(p.hash.digest())));
        self.own.xxh3.extend(hashes);
        let mut head = header(&self.tensors, &self.metadata, &self.own).map_err(|e| Error::file(&self.path, e))?;
        head.resize(self.start - 8, b' ');
        self.write_at(0, &[&(head.len() as u64).to_le_bytes(), &*head].concat())?;
        self.file.sync_all().map_err(Error::io(&self.path))?;
        let bytes = |info: &TensorInfo| info.data_offsets.1 - info.data_offsets.0;
        Ok(self.tensors.iter().map(|(name, info)| (name.clone(), bytes(info))).collect())
    }
}
