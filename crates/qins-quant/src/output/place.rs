//! Where an output's bytes go.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::build::Build;
use crate::Error;

/// Where an output's bytes go.
#[derive(Debug)]
pub(super) enum Place {
    /// A name, which a new file is given.
    Name(PathBuf),
    /// A file that can be written to, in a directory in which no other can be made.
    Overwrite(File),
    /// A device, a pipe, a terminal, or a file that is open already, such as standard output.
    Stream(File),
}

/// Links followed before giving up, as many as Linux follows.
const LINKS: usize = 40;

impl Place {
    /// Finds out where `path` leads, and checks that it can be written to.
    pub(super) fn of(path: &Path) -> Result<Self, Error> {
        let io = |e| Error::io(path)(e);
        let found = match fs::metadata(path) {
            Ok(found) => Some(found),
            // The second: it lies in a file.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
            Err(e) => return Err(io(e)),
        };
        let Some(found) = found else {
            let target = follow(path).map_err(io)?.unwrap_or_else(|| path.to_owned());
            if target.file_name().is_none() {
                return Err(Error::file(path, "expected the name of a file, found none"));
            }
            if !parent(&target).is_dir() {
                return Err(Error::file(path, "expected a directory to write into, found none"));
            }
            return Build::begin(parent(&target)).map(|_| Self::Name(target)).map_err(io);
        };
        if found.is_dir() {
            return Err(Error::file(path, "expected a file to write to, found a directory"));
        }
        if let Some(open) = standard(path) {
            return Ok(Self::Stream(open));
        }
        let target = follow(path).map_err(io)?.filter(|_| found.is_file());
        let Some(target) = target else {
            // Appends to a file that another program has open and may be writing to.
            return OpenOptions::new().append(true).open(path).map(Self::Stream).map_err(io);
        };
        let file = OpenOptions::new().write(true).open(&target).map_err(io)?;
        match Build::begin(parent(&target)) {
            Ok(_) => Ok(Self::Name(target)),
            Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
                Ok(Self::Overwrite(file))
            }
            Err(e) => Err(io(e)),
        }
    }
}

/// The directory of a file.
pub(super) fn parent(file: &Path) -> &Path {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Where the symbolic links at a path's end lead, whether or not there is something; `None` for a link to an open file, which has
/// no name.
pub(crate) fn follow(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink()) {
            return Ok(Some(path));
        }
        // `/dev/stdout` is a link to `/proc/self/fd/1`, which is one to whatever was opened.
        if fs::canonicalize(parent(&path))?.starts_with("/proc") {
            return Ok(None);
        }
        path = parent(&path).join(fs::read_link(&path)?);
    }
    Err(io::Error::other("expected a path to a file, found too many links"))
}

/// Standard output, as a file of the same description.
#[cfg(unix)]
pub(super) fn stdout() -> io::Result<File> {
    use std::os::fd::AsFd;

    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}

#[cfg(windows)]
pub(super) fn stdout() -> io::Result<File> {
    use std::os::windows::io::AsHandle;

    io::stdout().as_handle().try_clone_to_owned().map(File::from)
}

/// Standard output or error, if `path` is the file it goes to: a file of another description would begin at its start, and one
/// that replaced it would take from it what is printed.
#[cfg(unix)]
fn standard(path: &Path) -> Option<File> {
    use std::os::{fd::AsFd, unix::fs::MetadataExt};

    let identity = |found: fs::Metadata| (found.dev(), found.ino());
    let found = fs::metadata(path).map(identity).ok()?;
    let error = io::stderr().as_fd().try_clone_to_owned().map(File::from);
    let mut open = [stdout(), error].into_iter().flatten();
    open.find(|open| open.metadata().is_ok_and(|open| identity(open) == found))
}

#[cfg(not(unix))]
fn standard(_: &Path) -> Option<File> {
    None
}

/// Gives a complete file the name of `target`, with the mode and, where permitted, the owner of the file it replaces.
pub(super) fn replace(file: &Path, target: &Path) -> io::Result<()> {
    if let Ok(old) = fs::metadata(target) {
        #[cfg(unix)]
        {
            use std::os::unix::fs::{MetadataExt, chown};

            let new = fs::metadata(file)?;
            if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
                // Only root may give a file away.
                let _ = chown(file, Some(old.uid()), Some(old.gid()));
            }
        }
        fs::set_permissions(file, old.permissions())?;
    }
    match fs::rename(file, target) {
        // A file that is a mount point, as in containers, cannot be replaced.
        Err(e) if matches!(e.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::CrossesDevices) => {
            overwrite(file, OpenOptions::new().write(true).open(target)?)
        }
        renamed => {
            renamed?;
            sync_directory(parent(target));
            Ok(())
        }
    }
}

/// Replaces the content of an open file by that of `file`.
pub(super) fn overwrite(file: &Path, mut open: File) -> io::Result<()> {
    open.set_len(0)?;
    io::copy(&mut File::open(file)?, &mut open)?;
    open.sync_all()
}

/// Writes to what is no file of its own, after what has been printed.
pub(super) fn append(content: &mut dyn io::Read, mut open: File) -> io::Result<()> {
    io::stdout().flush()?;
    io::copy(content, &mut open).map(drop)
}

/// Makes renames in a directory durable; not every file system can.
pub(crate) fn sync_directory(directory: &Path) {
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
}
