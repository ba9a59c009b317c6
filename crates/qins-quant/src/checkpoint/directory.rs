//! A directory that is there whole or not at all.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{ShardWriter, TensorSpec};
use crate::Error;

/// How the name begins of a directory that is being built.
const PREFIX: &str = ".qins-";

/// Locked in a directory that is being built, for as long as somebody builds it.
const LOCK: &str = "lock";

/// A directory under construction, beside its final place; it takes that place in one rename, or leaves no trace. What
/// a killed process left is removed by the next one that builds in the same place.
#[derive(Debug)]
pub struct Directory {
    work: PathBuf,
    target: PathBuf,
    _lock: File,
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
        remove_abandoned(near);
        let temp = tempfile::Builder::new().prefix(PREFIX).tempdir_in(near).map_err(Error::io(near))?;
        let lock = File::create(temp.path().join(LOCK)).map_err(Error::io(near))?;
        lock.lock().map_err(Error::io(near))?;
        // Temporary directories are private; one made inside is as readable as any directory made here.
        let work = temp.path().join("checkpoint");
        fs::create_dir(&work).map_err(Error::io(&work))?;
        Ok(Self { work, target: target.to_owned(), _lock: lock, _temp: temp })
    }

    /// Writes a small file.
    ///
    /// # Errors
    /// When the disk does.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        fs::write(self.work.join(name), content).map_err(Error::io(self.target.join(name)))
    }

    /// Begins a safetensors file holding exactly `tensors`, and `streams`, whose shapes here are the most they may take.
    ///
    /// # Errors
    /// When the disk does, or a tensor is named twice.
    pub fn shard(&self, name: &str, tensors: Vec<TensorSpec>, streams: Vec<TensorSpec>) -> Result<ShardWriter, Error> {
        ShardWriter::create(&self.work.join(name), self.target.join(name), tensors, streams)
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

/// Removes what killed processes left: directories of ours whose lock nobody holds. What cannot be removed stays.
fn remove_abandoned(dir: &Path) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    for path in entries.filter(|e| e.file_name().to_string_lossy().starts_with(PREFIX)).map(|e| e.path()) {
        if File::open(path.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}
