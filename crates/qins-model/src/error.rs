//! What can be wrong with a model's files.

use std::path::PathBuf;

/// An error a user can act on, in one sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The checkpoint cannot be read, encoded or written.
    #[error(transparent)]
    Checkpoint(#[from] qins_quant::Error),
    /// The configuration describes a model that cannot be built.
    #[error("{path}: {message}")]
    Config {
        /// The configuration file.
        path: PathBuf,
        /// Expected and found.
        message: String,
    },
    /// The text cannot be tokenised, or the tokenizer or chat template not be read.
    #[error("{path}: {message}")]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What the tokenizer said.
        message: String,
    },
    /// A policy names linears that the model does not have.
    #[error("{0}")]
    Policy(String),
    /// There is no such directory, and what was given is no name on the hub.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Location(#[from] crate::hub::LocationError),
    /// The model cannot be fetched from the hub.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(#[from] crate::HubError),
}
