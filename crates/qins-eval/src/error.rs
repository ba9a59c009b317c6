//! The errors of an evaluation.

use std::path::PathBuf;

use crate::model::ModelError;

/// An error of an evaluation; its message is one sentence that names the file, prompt or setting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model's files cannot be read.
    #[error(transparent)]
    Files(#[from] qins_model::Error),
    /// The model failed to load, encode, generate or score.
    #[error(transparent)]
    Model(ModelError),
    /// The model failed on one prompt.
    #[error("prompt `{id}`: {source}")]
    Prompt {
        /// The prompt's id.
        id: String,
        /// The model's error.
        source: ModelError,
    },
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The content of a file is invalid.
    #[error("{place}: {message}")]
    Input {
        /// The file, with the line number where there is one.
        place: String,
        /// What was expected, and what was found.
        message: String,
    },
    /// The settings exclude each other, or leave nothing to evaluate.
    #[error("{0}")]
    Settings(String),
    /// The work was to stop: see [`Progress::is_cancelled`](crate::Progress::is_cancelled).
    #[error("interrupted")]
    Interrupted,
    /// A search found no mixture of schemes that reaches its goal.
    #[error("expected a mixture that reaches the goal on the calibration prompts, found none: {nearest}")]
    NoMixture {
        /// The last mixture that was tried, and its result.
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
