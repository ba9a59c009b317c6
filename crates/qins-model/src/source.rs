//! A model's files with a display name.

use std::path::Path;
#[cfg(feature = "hub")]
use std::path::PathBuf;

use qins_quant::checkpoint::{Checkpoint, Files};

use crate::Error;
#[cfg(feature = "hub")]
use crate::hub::{Hub, HubProgress, ModelLocation};

/// A model's files, with a name for messages and reports.
#[derive(Debug)]
pub struct ModelSource {
    /// A directory, a name on the hub with its commit, or any other name.
    pub name: String,
    /// Its configuration and weights.
    pub checkpoint: Checkpoint,
}

impl ModelSource {
    /// Opens a directory, or with the feature `hub` a name on the hub, `owner/name[@revision]`, downloaded into its cache once.
    ///
    /// # Errors
    /// When there is no such model, or its files are not a checkpoint.
    pub fn open(model: impl AsRef<Path>) -> Result<Self, Error> {
        #[cfg(feature = "hub")]
        return Self::open_with(model, Hub::from_env, &mut |_| {});
        #[cfg(not(feature = "hub"))]
        Self::of_directory(model)
    }

    /// As [`open`](Self::open), from a given hub, which is created only when `model` is a name; `progress` receives the progress of the download.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[cfg(feature = "hub")]
    pub fn open_with(
        model: impl AsRef<Path>,
        hub: impl FnOnce() -> Result<Hub, crate::HubError>,
        progress: &mut dyn FnMut(HubProgress),
    ) -> Result<Self, Error> {
        let (name, dir) = Self::locate(model, hub, progress)?;
        Self::of_files(name, Files::Directory(dir))
    }

    /// The display name of a model, and the directory of its files, which are downloaded unless they are in the cache. The files are
    /// not opened.
    ///
    /// # Errors
    /// When there is no such directory, and no such model on the hub.
    #[cfg(feature = "hub")]
    pub fn locate(
        model: impl AsRef<Path>,
        hub: impl FnOnce() -> Result<Hub, crate::HubError>,
        progress: &mut dyn FnMut(HubProgress),
    ) -> Result<(String, PathBuf), Error> {
        match ModelLocation::of(model.as_ref())? {
            ModelLocation::Path(dir) => Ok((dir.display().to_string(), dir)),
            ModelLocation::Hub(name) => {
                let fetched = hub()?.fetch(&name, progress)?;
                Ok((format!("{}@{}", name.repository(), fetched.commit), fetched.dir))
            }
        }
    }

    /// Opens a directory.
    ///
    /// # Errors
    /// When it does not exist, or is not a checkpoint.
    pub fn of_directory(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let dir = dir.as_ref();
        Self::of_files(dir.display().to_string(), Files::Directory(dir.to_owned()))
    }

    /// Opens the files of a model, in a directory or in memory.
    ///
    /// # Errors
    /// When they are not a checkpoint.
    pub fn of_files(name: impl Into<String>, files: Files) -> Result<Self, Error> {
        Ok(Self { name: name.into(), checkpoint: Checkpoint::open(files)? })
    }
}
