//! The cache's folders, and the changes that are made to them: each at once, or not at all.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{
    HubFailure, HubName, HubNote,
    checksum::{announced_size, checksum},
    name::is_hex,
    progress::Reporter,
};

/// What a small file of a model has at most: the largest tokenizers have a third of it.
pub(super) const SMALL_FILE: u64 = 100 << 20;

/// A repository's folder in the cache.
pub(super) struct Folder {
    path: PathBuf,
    locks: PathBuf,
}

impl Folder {
    pub(super) fn of(cache: &Path, name: &HubName) -> Self {
        let folder = format!("models--{}--{}", name.owner(), name.name());
        Self { path: cache.join(&folder), locks: cache.join(".locks").join(folder) }
    }

    pub(super) fn blob(&self, checksum: &str) -> PathBuf {
        self.path.join("blobs").join(checksum)
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.path.join("snapshots").join(commit)
    }

    /// The commit that a revision stood for the last time.
    pub(super) fn commit(&self, revision: &str) -> Result<String, HubFailure> {
        if is_hex(revision, 40) {
            return Ok(revision.to_owned());
        }
        let reference = self.reference(revision);
        let text = fs::read_to_string(&reference).unwrap_or_default();
        let commit = Some(text.trim().to_owned()).filter(|text| is_hex(text, 40));
        commit.ok_or(HubFailure::NotCached(reference))
    }

    /// Writes down which commit a revision stands for.
    pub(super) fn set_commit(&self, revision: &str, commit: &str, reporter: &Reporter) {
        let reference = self.reference(revision);
        if revision == commit || fs::read_to_string(&reference).is_ok_and(|found| found.trim() == commit) {
            return;
        }
        let write = || {
            create_parent(&reference)?;
            let temporary = self.temporary();
            fs::write(&temporary, commit)?;
            fs::rename(&temporary, &reference).inspect_err(|_| drop(fs::remove_file(&temporary)))
        };
        // The model is whole all the same: a cache may be one that is only read.
        if let Err(error) = write() {
            reporter.note(HubNote::RefNotWritten { path: reference, error });
        }
    }

    /// Lets one program at a time fetch a file; the hub's own keep to the same lock.
    pub(super) fn lock(&self, file: &str, checksum: &str, reporter: &Reporter) -> Result<File, HubFailure> {
        let path = self.locks.join(format!("{checksum}.lock"));
        let open = || {
            create_parent(&path)?;
            File::create(&path)
        };
        let lock = open().map_err(|e| HubFailure::io(&path, e))?;
        match lock.try_lock() {
            // Where a file system has no locks, two transfers in one file would show in its checksum.
            Ok(()) | Err(TryLockError::Error(_)) => {}
            Err(TryLockError::WouldBlock) => {
                reporter.note(HubNote::WaitingForLock { file: file.to_owned() });
                lock.lock().map_err(|e| HubFailure::io(&path, e))?;
            }
        }
        Ok(lock)
    }

    /// Gives a blob its name in a snapshot. A name that leads there already is left alone, for others may be reading.
    #[cfg(unix)]
    pub(super) fn link(&self, blob: &Path, pointer: &Path) -> io::Result<()> {
        let target = Path::new("../../blobs").join(blob.file_name().unwrap_or_default());
        if fs::read_link(pointer).is_ok_and(|found| found == target) {
            return Ok(());
        }
        let temporary = self.temporary();
        std::os::unix::fs::symlink(&target, &temporary)?;
        fs::rename(&temporary, pointer).inspect_err(|_| drop(fs::remove_file(&temporary)))
    }

    /// Where links take a privilege, the hub's own programs move the file.
    #[cfg(not(unix))]
    pub(super) fn link(&self, blob: &Path, pointer: &Path) -> io::Result<()> {
        fs::rename(blob, pointer)
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.path.join("refs").join(revision)
    }

    /// A name that no other program and no other thread has.
    fn temporary(&self) -> PathBuf {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        self.path.join(format!(".qins-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
    }
}

pub(super) fn create_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

/// Whether a file is there and has its size.
pub(super) fn has_size(path: &Path, size: u64) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.len() == size)
}

/// Checks a file as far as can be done without the hub: weights by the size that their header tells, and what is small by
/// the checksum that it is stored under.
pub(super) fn check_offline(pointer: &Path) -> Result<(), HubFailure> {
    let Ok(path) = fs::canonicalize(pointer) else { return Err(HubFailure::NotCached(pointer.to_owned())) };
    let io = |e| HubFailure::io(&path, e);
    let size = path.metadata().map_err(io)?.len();
    let damaged = |expected, found| Err(HubFailure::Damaged { path: path.clone(), expected, found });
    if pointer.extension().is_some_and(|extension| extension == "safetensors") {
        return match announced_size(&path).map_err(io)? {
            Some(expected) if expected == size => Ok(()),
            Some(expected) => damaged(format!("{expected} bytes"), size.to_string()),
            None => damaged("a safetensors header".to_owned(), format!("another text in {size} bytes")),
        };
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if size > SMALL_FILE || !(is_hex(name, 40) || is_hex(name, 64)) {
        return Ok(());
    }
    let found = checksum(&path, name.len()).map_err(io)?;
    if found == name { Ok(()) } else { damaged(format!("checksum {name}"), found) }
}
