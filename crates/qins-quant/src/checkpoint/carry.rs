//! The files of a checkpoint besides its weights: which are carried over into a converted or exported one, and how.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fmt, fs, io,
    path::{Component, Path, PathBuf},
};

use super::{
    Checkpoint, Directory, Files, ShardWriter, TensorSpec,
    files::regular_file,
    header::Extra,
    reader::{CONFIG, INDEX, SINGLE},
};
use crate::Error;

/// Endings of files that hold weights, in whatever form: the result would have them unconverted.
const WEIGHTS: [&str; 18] = [
    ".safetensors",
    ".index.json",
    ".bin",
    ".pt",
    ".pth",
    ".gguf",
    ".ggml",
    ".onnx",
    ".onnx_data",
    ".onnx.data",
    ".h5",
    ".msgpack",
    ".ot",
    ".npz",
    ".npy",
    ".ckpt",
    ".tflite",
    ".nemo",
];

/// Directories that programs keep for themselves.
const HOUSEKEEPING: [&str; 4] = [".git", ".cache", ".svn", "__pycache__"];

/// A file or directory of the source that is not in the result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftOut {
    /// Its path in the source.
    pub path: PathBuf,
    /// Why it is left out.
    pub reason: &'static str,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In one line, whatever is in the name.
        write!(f, "{} ({})", self.path.display().to_string().escape_debug(), self.reason)
    }
}

/// What is carried over, as paths in the source, and what is not.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    files: Vec<PathBuf>,
    pub(crate) left_out: Vec<LeftOut>,
}

impl Carried {
    fn leave_out(&mut self, path: PathBuf, reason: &'static str) {
        self.left_out.push(LeftOut { path, reason });
    }

    fn file(&mut self, path: PathBuf, written: &BTreeSet<&str>) {
        let name = path.to_string_lossy().to_lowercase();
        if path.to_str().is_some_and(|path| written.contains(path)) {
        } else if WEIGHTS.iter().any(|ending| name.ends_with(ending)) {
            self.leave_out(path, "other weights");
        } else if path.components().all(|part| matches!(part, Component::Normal(_))) {
            self.files.push(path);
        } else {
            self.leave_out(path, "not within the model");
        }
    }
}

/// Lists what of `source` is carried over. To be called before the work: a file that cannot be read is an error.
pub(crate) fn list(source: &Checkpoint) -> Result<Carried, Error> {
    let mut written: BTreeSet<&str> = source.shards().chain([CONFIG]).collect();
    if !source.shards().eq([SINGLE]) {
        written.insert(INDEX);
    }
    let mut carried = Carried::default();
    match source.files() {
        Files::Directory(dir) => walk(dir, &written, &mut carried)?,
        Files::Embedded { files, .. } => files.iter().for_each(|(name, _)| carried.file(name.into(), &written)),
        Files::Memory(files) => files.keys().for_each(|name| carried.file(name.into(), &written)),
    }
    Ok(carried)
}

/// Every entry below `root`. Links to files are followed, as the hub's cache consists of them; links to directories are not, as
/// they may lead anywhere, and back.
fn walk(root: &Path, written: &BTreeSet<&str>, carried: &mut Carried) -> Result<(), Error> {
    let mut todo = vec![PathBuf::new()];
    while let Some(below) = todo.pop() {
        let dir = root.join(&below);
        let entries = fs::read_dir(&dir).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(Error::io(&dir))?;
        let mut names: Vec<_> = entries.iter().map(fs::DirEntry::file_name).collect();
        names.sort();
        for name in names {
            let (path, full) = (below.join(&name), dir.join(&name));
            let kind = fs::symlink_metadata(&full).map_err(Error::io(&full))?.file_type();
            if kind.is_dir() {
                match housekeeping(&name, &full) {
                    Some(reason) => carried.leave_out(path, reason),
                    None => todo.push(path),
                }
                continue;
            }
            match fs::metadata(&full) {
                Ok(target) if target.is_file() => {
                    regular_file(&full)?;
                    carried.file(path, written);
                }
                Ok(target) if target.is_dir() => carried.leave_out(path, "a link to a directory"),
                Ok(_) => carried.leave_out(path, "neither a file nor a directory"),
                Err(_) if kind.is_symlink() => carried.leave_out(path, "a link that leads to no file"),
                Err(e) => return Err(Error::io(full)(e)),
            }
        }
    }
    Ok(())
}

/// Why a directory is no part of the model, if it is none.
fn housekeeping(name: &OsStr, dir: &Path) -> Option<&'static str> {
    if HOUSEKEEPING.iter().any(|known| name == *known) || name.to_string_lossy().starts_with(".qins-") {
        Some("a program's own directory")
    } else if dir.join(CONFIG).exists() {
        Some("another model")
    } else {
        None
    }
}

impl Directory {
    /// Copies files of `source` to the directory.
    pub(crate) fn carry(&self, source: &Checkpoint, carried: &Carried) -> Result<(), Error> {
        for path in &carried.files {
            let content: &mut dyn io::Read = match source.files() {
                Files::Directory(dir) => &mut regular_file(&dir.join(path))?,
                files @ (Files::Embedded { .. } | Files::Memory(_)) => &mut &*files.read(&path.to_string_lossy())?,
            };
            self.copy(path.as_os_str(), content)?;
        }
        Ok(())
    }

    /// Begins the file `shard` of the result, with the metadata of `source`'s.
    pub(crate) fn shard_like(
        &self,
        source: &Checkpoint,
        shard: &str,
        tensors: Vec<TensorSpec>,
        streams: Vec<TensorSpec>,
    ) -> Result<ShardWriter, Error> {
        let extra = Extra { metadata: source.metadata_of(shard), ..Extra::default() };
        self.shard_with(shard, tensors, streams, extra)
    }
}
