//! Writing a checkpoint: all of it or none of it.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::{BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use safetensors::{
    Dtype,
    tensor::{Metadata, TensorInfo},
};
use tempfile::TempDir;

use crate::Error;

/// A directory under construction, beside its final place; it takes that place in one rename, or leaves no trace.
#[derive(Debug)]
pub struct Directory {
    work: PathBuf,
    target: PathBuf,
    /// Holds `work`, and removes whatever is still there in the end.
    _temp: TempDir,
}

impl Directory {
    /// Begins a directory that will be `target`, which must not exist or be empty.
    ///
    /// # Errors
    /// When `target` is taken, or its parent cannot be written to.
    pub fn create(target: &Path) -> Result<Self, Error> {
        let taken = match fs::read_dir(target) {
            Ok(mut entries) => entries.next().is_some(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
            Err(e) => return Err(Error::io(target)(e)),
        };
        if taken {
            return Err(Error::file(target, "expected a new or empty directory, found one with files in it"));
        }
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // What is missing on the way there is made in the end: a directory that fails leaves none of it.
        let near = parent.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("."));
        let temp = tempfile::Builder::new().prefix(".qins-").tempdir_in(near).map_err(Error::io(near))?;
        // Temporary directories are private; one made inside is as readable as any directory made here.
        let work = temp.path().join("checkpoint");
        fs::create_dir(&work).map_err(Error::io(&work))?;
        Ok(Self { work, target: target.to_owned(), _temp: temp })
    }

    /// Writes a small file.
    ///
    /// # Errors
    /// When the disk does.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        fs::write(self.work.join(name), content).map_err(Error::io(self.target.join(name)))
    }

    /// Begins a safetensors file holding exactly `tensors`, in this order.
    ///
    /// # Errors
    /// When the disk does, or a tensor is named twice.
    pub fn shard(&self, name: &str, tensors: Vec<TensorSpec>) -> Result<ShardWriter, Error> {
        ShardWriter::create(&self.work.join(name), self.target.join(name), tensors)
    }

    /// Puts the directory in its place.
    ///
    /// # Errors
    /// When the rename fails; nothing is left at the target then.
    pub fn commit(self) -> Result<(), Error> {
        if let Some(parent) = self.target.parent() {
            fs::create_dir_all(parent).map_err(Error::io(parent))?;
        }
        // Not every system renames onto an empty directory. One with files in it stays, and the rename fails.
        let _ = fs::remove_dir(&self.target);
        fs::rename(&self.work, &self.target).map_err(Error::io(&self.target))
    }
}

/// A tensor to come.
#[derive(Clone, Debug)]
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
        // An overflow stays larger than any file; the header of such a tensor is refused.
        self.shape.iter().fold(self.dtype.bitsize(), |bits, &n| bits.saturating_mul(n)) / 8
    }
}

/// A safetensors file whose header is written first, and whose tensors may come in any order.
#[derive(Debug)]
pub struct ShardWriter {
    file: BufWriter<File>,
    path: PathBuf,
    /// Offset in the file and length of each tensor still to come.
    missing: HashMap<String, (u64, usize)>,
}

impl ShardWriter {
    fn create(at: &Path, path: PathBuf, mut tensors: Vec<TensorSpec>) -> Result<Self, Error> {
        // Widest types first, then by name: every tensor is aligned, and the same tensors give the same bytes.
        tensors.sort_by(|a, b| b.dtype.bitsize().cmp(&a.dtype.bitsize()).then_with(|| a.name.cmp(&b.name)));
        let mut end = 0;
        let mut infos = Vec::with_capacity(tensors.len());
        let mut names = HashSet::new();
        for spec in tensors {
            if !names.insert(spec.name.clone()) {
                return Err(Error::tensor(&path, spec.name, "expected once, found announced twice"));
            }
            let offsets = (end, end + spec.bytes());
            end = offsets.1;
            infos.push((spec.name, TensorInfo { dtype: spec.dtype, shape: spec.shape, data_offsets: offsets }));
        }
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let header = Metadata::new(Some(metadata), infos.clone()).map_err(|e| Error::file(&path, format!("{e:?}")))?;
        let mut header = serde_json::to_vec(&header).map_err(|e| Error::file(&path, e))?;
        header.resize(header.len().next_multiple_of(8), b' ');
        let start = 8 + header.len() as u64;
        let missing = infos
            .into_iter()
            .map(|(name, info)| (name, (start + info.data_offsets.0 as u64, info.data_offsets.1 - info.data_offsets.0)))
            .collect();
        let create = || -> std::io::Result<BufWriter<File>> {
            let mut file = BufWriter::new(File::create(at)?);
            file.write_all(&(header.len() as u64).to_le_bytes())?;
            file.write_all(&header)?;
            Ok(file)
        };
        let file = create().map_err(Error::io(&path))?;
        Ok(Self { file, path, missing })
    }

    /// Writes one tensor's bytes.
    ///
    /// # Errors
    /// When the disk does, or when the tensor was not announced with this size or was written before.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        match self.missing.remove(name) {
            Some((offset, length)) if length == bytes.len() => self
                .file
                .seek(SeekFrom::Start(offset))
                .and_then(|_| self.file.write_all(bytes))
                .map_err(Error::io(&self.path)),
            planned => {
                let message = format!("expected {:?} bytes, found {}", planned.map(|(_, l)| l), bytes.len());
                Err(Error::tensor(&self.path, name, message))
            }
        }
    }

    /// Flushes the file to disk.
    ///
    /// # Errors
    /// When the disk does, or an announced tensor was never written.
    pub fn finish(self) -> Result<(), Error> {
        if let Some(name) = self.missing.keys().min() {
            return Err(Error::tensor(&self.path, name, "announced, but never written"));
        }
        let path = self.path;
        self.file.into_inner().map_err(|e| e.into_error()).and_then(|file| file.sync_all()).map_err(Error::io(path))
    }
}
