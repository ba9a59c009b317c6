//! A path or a name: what a command line's `--model` says.

use std::path::{Path, PathBuf};

use super::{HubName, NameError};

/// Where a model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelLocation {
    /// On this machine.
    Path(PathBuf),
    /// On the hub, or in its cache.
    Hub(HubName),
}

/// What neither exists nor can be a model's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: no such file or directory, and no model on the hub: {source}", path.display())]
#[non_exhaustive]
pub struct LocationError {
    /// What was looked for.
    pub path: PathBuf,
    /// Why it is no name.
    pub source: NameError,
}

impl ModelLocation {
    /// Reads a text as a path where something is, and else as a name.
    ///
    /// # Errors
    /// When it is neither; the sentence says both.
    pub fn of(model: &Path) -> Result<Self, LocationError> {
        if model.exists() {
            return Ok(Self::Path(model.to_owned()));
        }
        // No name has characters that are lost here.
        let name = model.to_string_lossy().parse();
        name.map(Self::Hub).map_err(|source| LocationError { path: model.to_owned(), source })
    }
}
