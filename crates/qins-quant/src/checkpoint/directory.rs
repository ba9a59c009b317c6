//! A directory that appears complete or not at all.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{ShardWriter, TensorSpec};
use crate::Error;

/// The name prefix of a directory under construction.
const PREFIX: &str = ".qins-";

/// The file in a directory under construction that is locked while a process builds it.
const LOCK: &str = "lock";

/// The content under construction, in that directory.
const WORK: &str = "checkpoint";

/// A directory under construction, beside its target. It is renamed to the target when complete, and removed otherwise; what
/// a killed process left is removed by the next one that builds in the same parent.
#[derive(Debug)]
pub struct Directory {
    work: PathBuf,
    target: PathBuf,
    _lock: File,
    /// Holds `work`.
    temp: TempDir,
}

impl Drop for Directory {
    fn drop(&mut self) {
        remove(self.temp.path());
    }
}

impl Directory {
    /// Begins a directory that will become `target`, which must not exist or be empty.
    ///
    /// # Errors
    /// When `target` has files in it, or its parent cannot be written to.
    pub fn create(target: &Path) -> Result<Self, Error> {
        let taken = match fs::read_dir(target) {
            Ok(mut entries) => entries.next().is_some(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            Err(e) => return Err(Error::io(target)(e)),
        };
        if taken {
            return Err(Error::file(target, "expected a new or empty directory, found one with files in it"));
        }
        Self::beside(target)
    }

    /// Begins a directory in which a file or directory is made that will become `target`.
    pub(super) fn beside(target: &Path) -> Result<Self, Error> {
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // Missing parents are created on commit, so that a failed build leaves none.
        let near = parent.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("."));
        remove_abandoned(near);
        // Another process may remove a directory that is not locked yet as abandoned; then the next attempt succeeds.
        let mut begun = begin(near);
        for _ in 0..10 {
            match begun {
                Err(e) if e.kind() == io::ErrorKind::NotFound && near.is_dir() => begun = begin(near),
                _ => break,
            }
        }
        let (temp, lock, work) = begun.map_err(Error::io(near))?;
        Ok(Self { work, target: target.to_owned(), _lock: lock, temp })
    }

    /// Writes a small file and flushes it to disk, as required before the rename.
    ///
    /// # Errors
    /// When writing fails.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let create = || {
            let mut file = File::create(self.work.join(name))?;
            file.write_all(content)?;
            file.sync_all()
        };
        create().map_err(Error::io(self.target.join(name)))
    }

    /// Begins a safetensors file with exactly `tensors`, and `streams`, whose shapes here are upper bounds.
    ///
    /// # Errors
    /// When writing fails, or a tensor is named twice.
    pub fn shard(&self, name: &str, tensors: Vec<TensorSpec>, streams: Vec<TensorSpec>) -> Result<ShardWriter, Error> {
        ShardWriter::create(&self.work.join(name), self.target.join(name), tensors, streams)
    }

    /// The path to build at.
    pub(super) fn work(&self) -> &Path {
        &self.work
    }

    /// Renames one file of the directory to the target.
    pub(super) fn commit_file(self, name: &OsStr) -> Result<(), Error> {
        self.make_parent()?;
        fs::rename(self.work.join(name), &self.target).map_err(Error::io(&self.target))
    }

    fn make_parent(&self) -> Result<(), Error> {
        self.target.parent().map_or(Ok(()), |parent| fs::create_dir_all(parent).map_err(Error::io(parent)))
    }

    /// Renames the directory to its target.
    ///
    /// # Errors
    /// When the rename fails; then nothing is left at the target.
    pub fn commit(self) -> Result<(), Error> {
        self.make_parent()?;
        // Not every system renames onto an empty directory. If it has files in it, it stays and the rename fails.
        let _ = fs::remove_dir(&self.target);
        fs::rename(&self.work, &self.target).map_err(Error::io(&self.target))
    }
}

/// A build directory in `near`, its lock, and the directory within for the content.
fn begin(near: &Path) -> io::Result<(TempDir, File, PathBuf)> {
    let temp = tempfile::Builder::new().prefix(PREFIX).tempdir_in(near)?;
    let lock = File::create(temp.path().join(LOCK))?;
    lock.lock()?;
    // Temporary directories are private; a directory created inside has default permissions.
    let work = temp.path().join(WORK);
    fs::create_dir(&work)?;
    Ok((temp, lock, work))
}

/// Removes what killed processes left: build directories whose lock is free, or which are empty. Failures to remove are
/// ignored.
fn remove_abandoned(dir: &Path) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    for path in entries.filter(|e| e.file_name().to_string_lossy().starts_with(PREFIX)).map(|e| e.path()) {
        // Held until the directory is removed: a process that has just created the lock waits for it, and then finds nothing.
        let lock = File::open(path.join(LOCK));
        match &lock {
            Ok(lock) if lock.try_lock().is_ok() => remove(&path),
            Ok(_) => {}
            Err(_) => drop(fs::remove_dir(&path)),
        }
    }
}

/// Removes a build directory, its lock last: if this is interrupted, the next process can still recognise it.
fn remove(path: &Path) {
    let _ = fs::remove_dir_all(path.join(WORK));
    let _ = fs::remove_dir_all(path);
}
