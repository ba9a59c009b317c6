//! A directory that appears complete or not at all.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::{ShardWriter, TensorSpec, header::Extra};
use crate::{
    Error,
    output::{Build, follow, is_name, live, sync_directory},
};

/// The file without which no program takes a directory for a checkpoint.
const CONFIG: &str = "config.json";

/// A directory under construction. Beside its target, it is renamed to it when complete. Inside a target that exists and is empty
/// — which may be the current directory, a mount point, or at the end of a link, and keeps its mode — its files are moved up,
/// `config.json` last: no program takes what a process killed during that for a checkpoint.
///
/// It is removed when dropped unfinished; that of a killed process is removed by the next one that builds in the same place.
#[derive(Debug)]
pub struct Directory {
    build: Build,
    /// As it was given, for messages.
    path: PathBuf,
    /// Where the links at its end lead.
    target: PathBuf,
    /// Whether the target did not exist.
    is_new: bool,
}

impl Directory {
    /// Begins a directory that will become `target`, which must not exist or be empty. Missing parents are created when it is
    /// complete.
    ///
    /// # Errors
    /// When `target` has files in it, or it or its parent cannot be written to.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let io = |e| Error::io(path)(e);
        let target = follow(path).map_err(io)?.unwrap_or_else(|| path.to_owned());
        let taken = || Error::file(path, "expected a new or empty directory, found one with files in it");
        let is_new = match fs::read_dir(&target) {
            Ok(_) => false,
            Err(e) if e.kind() == io::ErrorKind::NotFound => true,
            Err(e) => return Err(io(e)),
        };
        let build = if is_new {
            if target.file_name().is_none() {
                return Err(Error::file(path, "expected the name of a directory, found none"));
            }
            let parents = target.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
            // Missing parents are created on commit, so that a failed build leaves none.
            let near = parents.into_iter().find(|dir| dir.is_dir()).unwrap_or(Path::new("."));
            Build::begin(near).map_err(Error::io(near))?
        } else {
            // Nothing is made in a directory that is someone else's.
            if others(&target, |name| is_name(&name.to_string_lossy())).map_err(io)? {
                return Err(taken());
            }
            Build::begin(&target).map_err(io)?
        };
        let directory = Self { build, path: path.to_owned(), target, is_new };
        if directory.is_taken().map_err(io)? { Err(taken()) } else { Ok(directory) }
    }

    /// Checks that a directory can be created at `path`, before the work whose result it is for.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn check(path: &Path) -> Result<(), Error> {
        Self::create(path).map(drop)
    }

    /// Writes a small file and flushes it to disk, as required before the rename. A name may have folders in it, which are
    /// created.
    ///
    /// # Errors
    /// When writing fails.
    pub fn write(&self, name: impl AsRef<OsStr>, content: &[u8]) -> Result<(), Error> {
        self.copy(name.as_ref(), &mut &*content)
    }

    /// As [`write`](Self::write), with what a reader gives.
    pub(crate) fn copy(&self, name: &OsStr, content: &mut dyn io::Read) -> Result<(), Error> {
        let mut create = || {
            let mut file = File::create(self.build.create(name)?)?;
            io::copy(content, &mut file)?;
            file.sync_all()
        };
        create().map_err(Error::io(self.path.join(name)))
    }

    /// Begins a safetensors file with exactly `tensors`, and `streams`, whose shapes here are upper bounds.
    ///
    /// # Errors
    /// When writing fails, or a tensor is named twice.
    pub fn shard(&self, name: &str, tensors: Vec<TensorSpec>, streams: Vec<TensorSpec>) -> Result<ShardWriter, Error> {
        self.shard_with(name, tensors, streams, Extra::default())
    }

    /// As [`shard`](Self::shard), with metadata.
    pub(super) fn shard_with(
        &self,
        name: &str,
        tensors: Vec<TensorSpec>,
        streams: Vec<TensorSpec>,
        extra: Extra,
    ) -> Result<ShardWriter, Error> {
        let path = self.path.join(name);
        let at = self.build.create(name.as_ref()).map_err(Error::io(&path))?;
        ShardWriter::with_extra(&at, path, tensors, streams, extra)
    }

    /// Gives the directory its name.
    ///
    /// # Errors
    /// When a file cannot be renamed, or the target has files in it now; then nothing is left at the target.
    pub fn commit(self) -> Result<(), Error> {
        // A signal finds all of it in place, or nothing.
        let _live = live();
        let io = |e| Error::io(&self.path)(e);
        if !self.is_new {
            if self.is_taken().map_err(io)? {
                return Err(Error::file(&self.path, "expected an empty directory still, found one with files in it"));
            }
            return self.move_up().map_err(io);
        }
        let parent = self.target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(Error::io(parent))?;
        fs::rename(self.build.content(), &self.target).map_err(io)?;
        sync_directory(parent);
        Ok(())
    }

    /// Whether the target has files in it.
    fn is_taken(&self) -> io::Result<bool> {
        if self.is_new {
            return Ok(false);
        }
        others(&self.target, |name| self.build.is_named(name))
    }

    /// Moves the files into the target; if one cannot be moved, the others are moved back.
    fn move_up(&self) -> io::Result<()> {
        let content = self.build.content();
        let mut names = fs::read_dir(&content)?.map(|e| e.map(|e| e.file_name())).collect::<io::Result<Vec<_>>>()?;
        names.sort_by_key(|name| (name == CONFIG, name.clone()));
        let mut moved: Vec<&OsString> = Vec::new();
        for name in &names {
            if let Err(e) = fs::rename(content.join(name), self.target.join(name)) {
                moved.iter().rev().for_each(|name| drop(fs::rename(self.target.join(name), content.join(name))));
                return Err(e);
            }
            moved.push(name);
        }
        sync_directory(&self.target);
        Ok(())
    }
}

/// Whether a directory has entries other than some.
fn others(dir: &Path, except: impl Fn(&OsString) -> bool) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        if !except(&entry?.file_name()) {
            return Ok(true);
        }
    }
    Ok(false)
}
