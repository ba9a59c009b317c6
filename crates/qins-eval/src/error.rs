//! What can keep an evaluation from its figures.

use std::path::PathBuf;

use crate::model::ModelError;

/// An error a user can act on, in one sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model's files cannot be read.
    #[error(transparent)]
    Files(#[from] qins_model::Error),
    /// The model failed.
    #[error(transparent)]
    Model(ModelError),
    /// The model failed at a prompt.
    #[error("prompt `{id}`: {source}")]
    Prompt {
        /// The prompt.
        id: String,
        /// Why.
        source: ModelError,
    },
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file, or a line of it, is not what it should be.
    #[error("{place}: {message}")]
    Input {
        /// The file, and its line where there is one.
        place: String,
        /// Expected and found.
        message: String,
    },
    /// The evaluation as asked for cannot be made.
    #[error("{0}")]
    Settings(String),
    /// No mixture of schemes keeps what was asked for.
    #[error("expected a mixture that keeps it on the calibration prompts, found none: {nearest}")]
    NoMixture {
        /// The last that was tried.
        nearest: String,
    },
}

impl Error {
    pub(crate) fn input(place: impl ToString, message: impl ToString) -> Self {
        Self::Input { place: place.to_string(), message: message.to_string() }
    }
}

impl From<qins_quant::Error> for Error {
    fn from(error: qins_quant::Error) -> Self {
        Self::Files(error.into())
    }
}
