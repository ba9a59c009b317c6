//! Where a model's files are: in a directory, embedded in the program, or in memory.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
};

use memmap2::Mmap;

use crate::{Error, json};

/// A model's files by name.
#[derive(Clone, Debug)]
pub enum Files {
    /// A directory.
    Directory(PathBuf),
    /// Files compiled into the program.
    Embedded {
        /// Their name in messages.
        name: &'static str,
        /// Name and content of each.
        files: &'static [(&'static str, &'static [u8])],
    },
    /// Files in memory.
    Memory(Arc<BTreeMap<String, Arc<[u8]>>>),
}

/// A file's bytes, memory-mapped if it is on disk.
#[derive(Debug)]
pub struct OpenFile(Bytes);

#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Embedded(&'static [u8]),
    Memory(Arc<[u8]>),
}

impl Deref for OpenFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Mapped(map) => map,
            Bytes::Embedded(bytes) => bytes,
            Bytes::Memory(bytes) => bytes,
        }
    }
}

impl OpenFile {
    /// Gives the memory of what was read of a mapped file back to the system, which otherwise counts it as this process's. It is
    /// read again when it is asked for.
    #[allow(unsafe_code)]
    pub(super) fn release(&self) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = &self.0 {
            // SAFETY: the mapping is read-only, so its pages hold nothing but the file's bytes, and references to them stay valid.
            // An error leaves them where they are.
            let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
    }
}

impl Files {
    /// The path of a file, for opening and for messages.
    pub fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::Directory(dir) => dir.join(name),
            Self::Embedded { name: model, .. } => Path::new(model).join(name),
            Self::Memory(_) => Path::new("memory").join(name),
        }
    }

    /// Whether there is an entry of this name. It may be a directory or a link to nothing, which [`read`](Self::read) reports.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::Directory(dir) => {
                // Nor is there one in what is a file itself.
                let absent = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
                fs::symlink_metadata(dir.join(name)).map_or_else(|e| !absent.contains(&e.kind()), |_| true)
            }
            Self::Embedded { files, .. } => files.iter().any(|(n, _)| *n == name),
            Self::Memory(files) => files.contains_key(name),
        }
    }

    /// The content of a small file.
    ///
    /// # Errors
    /// When it is missing or unreadable.
    pub fn read(&self, name: &str) -> Result<Cow<'static, [u8]>, Error> {
        match self {
            Self::Directory(dir) => {
                let (path, mut bytes) = (dir.join(name), Vec::new());
                regular_file(&path)?.read_to_end(&mut bytes).map_err(Error::io(path))?;
                Ok(Cow::Owned(bytes))
            }
            Self::Embedded { files, .. } => self.found(name, embedded(files, name)).map(Cow::Borrowed),
            Self::Memory(files) => self.found(name, files.get(name)).map(|bytes| Cow::Owned(bytes.to_vec())),
        }
    }

    /// A JSON file that is an object; see [`json`].
    ///
    /// # Errors
    /// When it is missing, unreadable or not JSON of this form, naming the field.
    pub fn read_json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, Error> {
        json::object(&self.read(name)?)
            .and_then(|object| json::typed(&object))
            .map_err(|message| Error::file(self.path(name), message))
    }

    /// A large file, memory-mapped.
    ///
    /// # Errors
    /// When it is missing or cannot be mapped.
    #[allow(unsafe_code)]
    pub fn open(&self, name: &str) -> Result<OpenFile, Error> {
        match self {
            Self::Directory(dir) => {
                let path = dir.join(name);
                let file = regular_file(&path)?;
                // SAFETY: the usual caveat of reading weights by mmap: the file must not be truncated while the
                // program runs. Everything read from it is checked as bytes, never assumed to be valid.
                let map = unsafe { Mmap::map(&file) }.map_err(Error::io(&path))?;
                Ok(OpenFile(Bytes::Mapped(map)))
            }
            Self::Embedded { files, .. } => {
                self.found(name, embedded(files, name)).map(|bytes| OpenFile(Bytes::Embedded(bytes)))
            }
            Self::Memory(files) => {
                self.found(name, files.get(name).cloned()).map(|bytes| OpenFile(Bytes::Memory(bytes)))
            }
        }
    }

    fn found<T>(&self, name: &str, bytes: Option<T>) -> Result<T, Error> {
        bytes.ok_or_else(|| Error::file(self.path(name), "expected among these files, found none"))
    }
}

/// Opens a file. Opening a pipe would wait for somebody to write to it.
pub(crate) fn regular_file(path: &Path) -> Result<File, Error> {
    let kind = fs::metadata(path).map_err(Error::io(path))?;
    if !kind.is_file() {
        let found = if kind.is_dir() { "a directory" } else { "a pipe, socket or device" };
        return Err(Error::file(path, format!("expected a file, found {found}")));
    }
    File::open(path).map_err(Error::io(path))
}

fn embedded(files: &'static [(&'static str, &'static [u8])], name: &str) -> Option<&'static [u8]> {
    files.iter().find_map(|(n, bytes)| (*n == name).then_some(*bytes))
}
