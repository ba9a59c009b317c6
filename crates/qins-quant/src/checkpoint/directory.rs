//! A directory that is there whole or not at all.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{ShardWriter, TensorSpec};
use crate::Error;

/// How the name begins of a directory that is being built.
const PREFIX: &str = ".qins-";

/// Locked in a directory that is being built, for as long as somebody builds it.
const LOCK: &str = "lock";

/// What is being built, in there.
const WORK: &str = "checkpoint";

/// A directory under construction, beside its final place; it takes that place in one rename, or leaves no trace. What
/// a killed process left is removed by the next one that builds in the same place.
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
    /// Begins a directory that will be `target`, which must not exist or be empty.
    ///
    /// # Errors
    /// When `target` is taken, or its parent cannot be written to.
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

    /// Begins a directory in which something is made that will be `target`.
    pub(super) fn beside(target: &Path) -> Result<Self, Error> {
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // What is missing on the way there is made in the end: a directory that fails leaves none of it.
        let near = parent.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("."));
        remove_abandoned(near);
        // One that is not locked yet may be taken for abandoned by a process that tidies up just then: the next is not.
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

    /// Writes a small file, through to the disk: what is renamed into its place must be there.
    ///
    /// # Errors
    /// When the disk does.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let create = || {
            let mut file = File::create(self.work.join(name))?;
            file.write_all(content)?;
            file.sync_all()
        };
        create().map_err(Error::io(self.target.join(name)))
    }

    /// Begins a safetensors file holding exactly `tensors`, and `streams`, whose shapes here are the most they may take.
    ///
    /// # Errors
    /// When the disk does, or a tensor is named twice.
    pub fn shard(&self, name: &str, tensors: Vec<TensorSpec>, streams: Vec<TensorSpec>) -> Result<ShardWriter, Error> {
        ShardWriter::create(&self.work.join(name), self.target.join(name), tensors, streams)
    }

    /// Where to make it.
    pub(super) fn work(&self) -> &Path {
        &self.work
    }

    /// Puts one file of the directory in the place of the target, and nothing else.
    pub(super) fn commit_file(self, name: &OsStr) -> Result<(), Error> {
        self.make_parent()?;
        fs::rename(self.work.join(name), &self.target).map_err(Error::io(&self.target))
    }

    fn make_parent(&self) -> Result<(), Error> {
        self.target.parent().map_or(Ok(()), |parent| fs::create_dir_all(parent).map_err(Error::io(parent)))
    }

    /// Puts the directory in its place.
    ///
    /// # Errors
    /// When the rename fails; nothing is left at the target then.
    pub fn commit(self) -> Result<(), Error> {
        self.make_parent()?;
        // Not every system renames onto an empty directory. One with files in it stays, and the rename fails.
        let _ = fs::remove_dir(&self.target);
        fs::rename(&self.work, &self.target).map_err(Error::io(&self.target))
    }
}

/// A directory of ours in `near`, its lock, and the directory within that is worked in.
fn begin(near: &Path) -> io::Result<(TempDir, File, PathBuf)> {
    let temp = tempfile::Builder::new().prefix(PREFIX).tempdir_in(near)?;
    let lock = File::create(temp.path().join(LOCK))?;
    lock.lock()?;
    // Temporary directories are private; one made inside is as readable as any directory made here.
    let work = temp.path().join(WORK);
    fs::create_dir(&work)?;
    Ok((temp, lock, work))
}

/// Removes what killed processes left: directories of ours whose lock nobody holds, or in which there is nothing. What
/// cannot be removed stays.
fn remove_abandoned(dir: &Path) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    for path in entries.filter(|e| e.file_name().to_string_lossy().starts_with(PREFIX)).map(|e| e.path()) {
        // Held until all is removed: somebody who has just made the lock waits for it, and then finds nothing there.
        let lock = File::open(path.join(LOCK));
        match &lock {
            Ok(lock) if lock.try_lock().is_ok() => remove(&path),
            Ok(_) => {}
            Err(_) => drop(fs::remove_dir(&path)),
        }
    }
}

/// Removes a directory of ours, the lock last: who is killed meanwhile leaves what the next one knows as ours.
fn remove(path: &Path) {
    let _ = fs::remove_dir_all(path.join(WORK));
    let _ = fs::remove_dir_all(path);
}
