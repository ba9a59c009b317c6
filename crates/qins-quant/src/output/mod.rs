//! Output files: complete or not at all, wherever a path leads.
//!
//! - A symbolic link is followed, and what it leads to is written.
//! - What is no regular file, such as `/dev/null`, `/dev/stdout`, a pipe or a terminal, is written into as it is.
//! - A regular file is made in a build directory beside it (`.qins-build-` and 12 random characters), flushed to disk and renamed.
//!   It keeps the mode of the file it replaces. A build directory lists its files and is locked by its process; what a killed
//!   process left is removed by the next one that writes beside it, and nothing else is.
//! - A file in a directory in which none can be made, or that is a mount point, is overwritten in place.
//!
//! ```
//! use qins_quant::output::Output;
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("result.json");
//! let output = Output::open(&path)?; // before the work: an error now, rather than after it
//! let result = 6 * 7;
//! output.write(format!("{result}\n").as_bytes())?;
//! assert_eq!(std::fs::read_to_string(&path)?, "42\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod build;
mod place;

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use self::place::{Place, append, overwrite, parent, replace};
pub use build::remove_unfinished;
pub(crate) use {
    build::{Build, is_name, live, scratch},
    place::{follow, sync_directory},
};

use crate::Error;

/// The file's name in its build directory.
const FILE: &str = "file";

/// A file to write, checked before the work whose result it is for.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    place: Place,
}

impl Output {
    /// Checks that `path` can be written to; a pipe or device is opened. Nothing at `path` changes before
    /// [`write`](Self::write) or [`commit`](Self::commit).
    ///
    /// # Errors
    /// When `path` is a directory, lies in none, or may not be written to.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        Ok(Self { path: path.to_owned(), place: Place::of(path)? })
    }

    /// Standard output.
    ///
    /// # Errors
    /// When it is closed.
    #[cfg(any(unix, windows))]
    pub fn stdout() -> Result<Self, Error> {
        let path = PathBuf::from("standard output");
        let open = place::stdout().map_err(Error::io(&path))?;
        Ok(Self { path, place: Place::Stream(open) })
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The absolute path of the file that is written, links resolved; `None` for a device, a pipe, or a file that is open already.
    pub fn file(&self) -> Option<PathBuf> {
        match &self.place {
            Place::Name(target) => Some(fs::canonicalize(parent(target)).ok()?.join(target.file_name()?)),
            Place::Overwrite(_) => fs::canonicalize(&self.path).ok(),
            Place::Stream(_) => None,
        }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// When writing fails; then the file is as it was, unless it can only be overwritten in place.
    pub fn write(self, content: &[u8]) -> Result<(), Error> {
        if let Place::Stream(open) = self.place {
            return append(&mut &*content, open).map_err(Error::io(self.path));
        }
        let draft = self.draft()?;
        File::create(&draft.file).and_then(|mut file| file.write_all(content)).map_err(Error::io(&self.path))?;
        self.commit(draft)
    }

    /// Begins a file with the output's content, for [`commit`](Self::commit): empty, and where it can be renamed to the output.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn draft(&self) -> Result<Draft, Error> {
        match &self.place {
            Place::Name(target) => Draft::begin(Build::begin(parent(target)).map_err(Error::io(&self.path))?),
            Place::Overwrite(_) | Place::Stream(_) => Draft::scratch(),
        }
    }

    /// Makes the content of a complete draft that of the output.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn commit(self, draft: Draft) -> Result<(), Error> {
        let sync = || File::open(&draft.file)?.sync_all();
        let commit = || match self.place {
            Place::Name(target) => {
                sync()?;
                replace(&draft.file, &target)
            }
            Place::Overwrite(open) => overwrite(&draft.file, open),
            Place::Stream(open) => append(&mut File::open(&draft.file)?, open),
        };
        commit().map_err(Error::io(self.path))
    }
}

/// A file under construction, removed when dropped.
#[derive(Debug)]
pub struct Draft {
    file: PathBuf,
    /// Holds `file`.
    _build: Build,
}

impl Draft {
    fn begin(build: Build) -> Result<Self, Error> {
        let file = build.create(FILE.as_ref()).map_err(Error::io(build.content()))?;
        Ok(Self { file, _build: build })
    }

    /// Begins a file in the system's directory for temporary files that is needed only while this process runs.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn scratch() -> Result<Self, Error> {
        Self::begin(scratch().map_err(Error::io(std::env::temp_dir()))?)
    }

    /// Where it is written.
    pub fn path(&self) -> &Path {
        &self.file
    }
}

/// Writes a file: [`Output::open`] and [`Output::write`] at once.
///
/// # Errors
/// As both.
pub fn write(path: impl AsRef<Path>, content: &[u8]) -> Result<(), Error> {
    Output::open(path)?.write(content)
}
