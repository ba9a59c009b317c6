//! Errors of a model's files.

use std::path::PathBuf;

/// An error of a model's files; its message is one sentence that names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The checkpoint cannot be read, encoded or written.
    #[error(transparent)]
    Checkpoint(#[from] qins_quant::Error),
    /// The configuration is invalid, or its model is not supported.
    #[error("{path}: {message}")]
    Config {
        /// The configuration file.
        path: PathBuf,
        /// What was expected, and what was found.
        message: String,
    },
    /// The tokenizer or chat template cannot be read, or cannot process the text.
    #[error("{path}: {message}")]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// The error.
        message: String,
    },
    /// A policy matches no linear of the model.
    #[error("{0}")]
    Policy(String),
    /// The model is neither a directory nor a valid name on the hub.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Location(#[from] crate::hub::LocationError),
    /// The model cannot be downloaded from the hub.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(#[from] crate::HubError),
}
