//! Where a model's files are: in a directory, embedded in the program, or in memory.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::{self, File},
    io,
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
};

use memmap2::Mmap;

use crate::Error;

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

impl Files {
    /// The path of a file, for opening and for messages.
    pub fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::Directory(dir) => dir.join(name),
            Self::Embedded { name: model, .. } => Path::new(model).join(name),
            Self::Memory(_) => Path::new("memory").join(name),
        }
    }

    /// Whether the file exists.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::Directory(dir) => dir.join(name).is_file(),
            Self::Embedded { files, .. } => files.iter().any(|(n, _)| *n == name),
            Self::Memory(files) => files.contains_key(name),
        }
    }

    /// The names of all files, sorted, without subdirectories.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let mut names: Vec<String> = match self {
            Self::Directory(dir) => fs::read_dir(dir)
                .and_then(|entries| {
                    entries
                        .filter_map(|entry| entry.map(|e| e.path().is_file().then(|| e.file_name())).transpose())
                        .collect::<io::Result<Vec<_>>>()
                })
                .map_err(Error::io(dir))?
                .into_iter()
                .filter_map(|name| name.into_string().ok())
                .collect(),
            Self::Embedded { files, .. } => files.iter().map(|(name, _)| (*name).to_owned()).collect(),
            Self::Memory(files) => files.keys().cloned().collect(),
        };
        names.sort();
        Ok(names)
    }

    /// The content of a small file.
    ///
    /// # Errors
    /// When it is missing or unreadable.
    pub fn read(&self, name: &str) -> Result<Cow<'static, [u8]>, Error> {
        match self {
            Self::Directory(dir) => fs::read(dir.join(name)).map(Cow::Owned).map_err(Error::io(dir.join(name))),
            Self::Embedded { files, .. } => self.found(name, embedded(files, name)).map(Cow::Borrowed),
            Self::Memory(files) => self.found(name, files.get(name)).map(|bytes| Cow::Owned(bytes.to_vec())),
        }
    }

    /// A JSON file.
    ///
    /// # Errors
    /// When it is missing, unreadable or not JSON of this form.
    pub fn read_json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, Error> {
        serde_json::from_slice(&self.read(name)?).map_err(|e| Error::file(self.path(name), e))
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
                let file = File::open(&path).map_err(Error::io(&path))?;
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

fn embedded(files: &'static [(&'static str, &'static [u8])], name: &str) -> Option<&'static [u8]> {
    files.iter().find_map(|(n, bytes)| (*n == name).then_some(*bytes))
}
