//! A model and what to call it.

use qins_quant::checkpoint::{Checkpoint, Files};

use crate::Error;

/// A model's files, and what to call it in messages and reports.
#[derive(Debug)]
pub struct ModelSource {
    /// A directory, a name on the hub, or whatever a program calls it.
    pub name: String,
    /// Its configuration and weights.
    pub checkpoint: Checkpoint,
}

impl ModelSource {
    /// Opens files that are at hand.
    ///
    /// # Errors
    /// When they are no checkpoint.
    pub fn of_files(name: impl Into<String>, files: Files) -> Result<Self, Error> {
        Ok(Self { name: name.into(), checkpoint: Checkpoint::open(files)? })
    }

    /// Opens a directory.
    ///
    /// # Errors
    /// When there is none, or it is no checkpoint.
    pub fn open(model: &str) -> Result<Self, Error> {
        Self::of_files(model, Files::Directory(model.into()))
    }
}
