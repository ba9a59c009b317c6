//! What can go wrong between a checkpoint and a generated token.

use std::path::PathBuf;

use qins_quant::Scheme;

/// An error a user can act on, in one sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The checkpoint cannot be read or encoded.
    #[error(transparent)]
    Checkpoint(#[from] qins_quant::Error),
    /// The configuration describes a model this crate does not build.
    #[error("{path}: {message}")]
    Config {
        /// The configuration file.
        path: PathBuf,
        /// Expected and found.
        message: String,
    },
    /// The text cannot be tokenised, or the tokenizer not be read.
    #[error("{path}: {message}")]
    Tokenizer {
        /// The tokenizer file.
        path: PathBuf,
        /// What the tokenizer said.
        message: String,
    },
    /// A sequence is longer than the model can read.
    #[error("expected at most {limit} tokens, the model's context, found {found}")]
    ContextFull {
        /// The model's limit.
        limit: usize,
        /// Tokens asked for.
        found: usize,
    },
    /// A sequence is empty.
    #[error("expected at least one token, found an empty sequence")]
    Empty,
    /// The model's arithmetic overflowed.
    #[error("expected finite logits, found none: the model overflows")]
    NotFinite,
    /// A token is outside the vocabulary.
    #[error("expected token ids below {vocabulary}, the model's vocabulary, found {found}")]
    TokenId {
        /// Size of the vocabulary.
        vocabulary: usize,
        /// The offending id.
        found: u32,
    },
    /// A projection cannot be encoded.
    #[error("`{module}`: {source}")]
    Encode {
        /// The projection's name.
        module: String,
        /// Why.
        source: qins_quant::EncodeError,
    },
    /// There is nothing to calibrate on.
    #[error("expected at least one text to calibrate on, found none")]
    NoTexts,
    /// A linear to calibrate is encoded already.
    #[error("`{module}`: expected plain weights to calibrate, found them encoded as {scheme}")]
    Encoded {
        /// The projection's name.
        module: String,
        /// How its weights rest.
        scheme: Scheme,
    },
    /// What a linear is given overflows.
    #[error("`{module}`: expected inputs with a finite mean square, found {found} in channel {channel}")]
    Inputs {
        /// The projection's name.
        module: String,
        /// The input channel.
        channel: usize,
        /// Its mean square.
        found: f32,
    },
    /// A device failed.
    #[error("the device failed: {0}")]
    Device(String),
    /// A backend is not at hand.
    #[error("{0}")]
    Backend(String),
}
