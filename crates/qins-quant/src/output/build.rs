//! Build directories: where a file or directory is made before it gets its name.

use std::{
    collections::BTreeSet,
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Write},
    mem,
    path::{Component, Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The name of a build directory: this, and [`RANDOM`] letters and digits.
const PREFIX: &str = ".qins-build-";
const RANDOM: usize = 12;

/// The file in a build directory that is locked by the process that builds there. It begins with [`MARK`]; after that, each
/// line is the name of a file that was begun, as a JSON string, or its bytes where it is not text.
const LOCK: &str = "lock";
const MARK: &str =
    "Build directory of qins: when this file is not locked, qins may remove it and the files that it lists.\n";

/// The folder of those files.
const CONTENT: &str = "content";

/// The build directories of this process. Locked while a file is begun or gets its name, so that neither happens after
/// [`remove_unfinished`].
static LIVE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Access to the build directories of this process.
pub(crate) fn live() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes what this process is building, for a program that is about to end without unwinding, such as on a signal. From
/// then on every thread that begins or completes a file waits forever.
pub fn remove_unfinished() {
    let live = live();
    live.iter().for_each(|path| remove(path));
    mem::forget(live);
}

/// A build directory. It is removed when dropped; that of a killed process is removed by the next one that builds in the same
/// place.
#[derive(Debug)]
pub(crate) struct Build {
    path: PathBuf,
    lock: File,
}

impl Build {
    /// Begins a build directory in `near`, and removes those that were abandoned there.
    pub(crate) fn begin(near: &Path) -> io::Result<Self> {
        // Another process may remove a directory that is not locked yet as abandoned; then the next attempt succeeds.
        let mut begun = Self::try_begin(near);
        for _ in 0..10 {
            match begun {
                Err(e) if e.kind() == io::ErrorKind::NotFound && near.is_dir() => begun = Self::try_begin(near),
                _ => break,
            }
        }
        let build = begun?;
        build.remove_abandoned(near);
        Ok(build)
    }

    fn try_begin(near: &Path) -> io::Result<Self> {
        let mut live = live();
        let temp = tempfile::Builder::new().prefix(PREFIX).rand_bytes(RANDOM).tempdir_in(near).map_err(without_path)?;
        let mut lock = File::create_new(temp.path().join(LOCK))?;
        match lock.lock() {
            // Where a file system has no locks, no process takes a directory for abandoned.
            Err(e) if e.kind() != io::ErrorKind::Unsupported => return Err(e),
            _ => lock.write_all(MARK.as_bytes())?,
        }
        // Temporary directories are private; a directory created inside has default permissions.
        fs::create_dir(temp.path().join(CONTENT))?;
        let path = temp.keep();
        live.insert(path.clone());
        Ok(Self { path, lock })
    }

    /// The folder in which it builds.
    pub(crate) fn content(&self) -> PathBuf {
        self.path.join(CONTENT)
    }

    /// Whether this is its directory's name.
    pub(crate) fn is_named(&self, name: &OsStr) -> bool {
        self.path.file_name() == Some(name)
    }

    /// Begins a file, empty, with the folders it lies in; gives its path.
    pub(crate) fn create(&self, name: &OsStr) -> io::Result<PathBuf> {
        let _live = live();
        let Some(inside) = inside(name) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "expected the name of a file, found another path"));
        };
        // Listed first: what is not listed is never removed.
        let line = match name.to_str() {
            Some(text) => serde_json::to_string(text)?,
            None => serde_json::to_string(name)?,
        };
        (&self.lock).write_all(format!("{line}\n").as_bytes())?;
        let path = self.content().join(inside);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        File::create(&path)?;
        Ok(path)
    }

    /// Removes what killed processes left: unlocked build directories of the same user. Failures to remove are ignored.
    fn remove_abandoned(&self, near: &Path) {
        let Ok(own) = fs::symlink_metadata(&self.path) else { return };
        for entry in fs::read_dir(near).into_iter().flatten().flatten() {
            let path = entry.path();
            let found = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir() && same_owner(&own, &found));
            if !is_name(&entry.file_name().to_string_lossy()) || !found || path == self.path {
                continue;
            }
            let lock = path.join(LOCK);
            match fs::symlink_metadata(&lock) {
                // Held until the directory is removed: a process that has just created the lock waits for it, and then finds
                // nothing.
                Ok(file) if file.is_file() => match File::open(&lock) {
                    Ok(lock) if lock.try_lock().is_ok() => remove(&path),
                    _ => {}
                },
                // Killed before the lock was created, or after it was removed.
                Err(e) if e.kind() == io::ErrorKind::NotFound => drop(fs::remove_dir(&path)),
                _ => {}
            }
        }
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        let mut live = live();
        live.remove(&self.path);
        remove(&self.path);
    }
}

/// The system's error, without the name of the build directory, which means nothing to the reader.
fn without_path(error: io::Error) -> io::Error {
    let cause = error.get_ref().and_then(|error| error.source()).and_then(|cause| cause.downcast_ref::<io::Error>());
    match cause.and_then(io::Error::raw_os_error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error,
    }
}

/// Where files are built that are never given a name.
pub(crate) fn scratch() -> io::Result<Build> {
    Build::begin(&env::temp_dir())
}

/// Whether a directory of this name may be a build directory.
pub(crate) fn is_name(name: &str) -> bool {
    let random = name.strip_prefix(PREFIX);
    random.is_some_and(|random| random.len() == RANDOM && random.bytes().all(|b| b.is_ascii_alphanumeric()))
}

#[cfg(unix)]
fn same_owner(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;

    a.uid() == b.uid()
}

#[cfg(not(unix))]
fn same_owner(_: &fs::Metadata, _: &fs::Metadata) -> bool {
    true
}

/// A relative path that leads nowhere else.
fn inside(name: &OsStr) -> Option<&Path> {
    let path = Path::new(name);
    let normal = path.components().all(|part| matches!(part, Component::Normal(_)));
    (normal && path.file_name().is_some()).then_some(path)
}

/// The files that a lock lists; none if it is not one. Its writer may have been killed at any byte.
fn listed(lock: &str) -> Option<Vec<OsString>> {
    match lock.strip_prefix(MARK) {
        Some(lines) => Some(lines.lines().filter_map(listed_name).collect()),
        None => MARK.starts_with(lock).then(Vec::new),
    }
}

/// A name as it is listed.
fn listed_name(line: &str) -> Option<OsString> {
    let text = serde_json::from_str::<String>(line).map(OsString::from);
    text.or_else(|_| serde_json::from_str(line)).ok()
}

/// Removes a build directory that holds nothing but the files it lists, its lock last: if this is interrupted, the next process can
/// still recognise it. If it holds anything else, that stays, and so does the directory.
fn remove(path: &Path) {
    let (lock, content) = (path.join(LOCK), path.join(CONTENT));
    let Some(names) = fs::read_to_string(&lock).ok().and_then(|lock| listed(&lock)) else { return };
    let is_folder = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    let mut folders = BTreeSet::from([content.clone()]);
    for name in names.iter().filter_map(|name| inside(name)) {
        let file = content.join(name);
        let above: Vec<PathBuf> =
            file.ancestors().skip(1).take_while(|path| path.starts_with(&content)).map(Path::to_owned).collect();
        // A link would lead elsewhere.
        if above.iter().all(|path| is_folder(path)) {
            if fs::symlink_metadata(&file).is_ok_and(|found| found.is_file()) {
                let _ = fs::remove_file(&file);
            }
            folders.extend(above);
        }
    }
    // Those inside others come after them.
    folders.iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
    let mut left = fs::read_dir(path).into_iter().flatten().flatten();
    if left.all(|entry| entry.file_name() == LOCK) {
        let _ = fs::remove_file(&lock);
        let _ = fs::remove_dir(path);
    }
}
