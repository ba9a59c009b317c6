//! Errors of loading and running a model.

use qins_model::SamplerError;
use qins_quant::{HessianError, Scheme, kv::KvScheme};

/// An error of loading or running a model, with a message of one sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model's files cannot be read, or the model is not supported.
    #[error(transparent)]
    Model(#[from] qins_model::Error),
    /// A sequence is longer than the model's context.
    #[error("expected at most {limit} tokens, the model's context, found {found}")]
    ContextFull {
        /// The model's limit.
        limit: usize,
        /// The requested length.
        found: usize,
    },
    /// A sequence is empty.
    #[error("expected at least one token, found an empty sequence")]
    Empty,
    /// A logit is NaN or infinite. −∞ too: no supported model masks its vocabulary, so it is an overflow.
    #[error(
        "expected finite logits, found {value} of token id {id} after token {position} of the sequence: the model overflows"
    )]
    NotFinite {
        /// The logit.
        value: f32,
        /// The token id that it is of.
        id: usize,
        /// The position of the token after which it was computed, from 0.
        position: usize,
    },
    /// A key or value is beyond the range of the KV cache, so that logits are not finite.
    #[error(
        "expected {what} of magnitude {most} or less for a KV cache in {scheme}, found {found} in layer {layer} by \
         token {position} of the sequence: a cache in f32 has the range"
    )]
    KvRange {
        /// How keys and values are stored.
        scheme: KvScheme,
        /// `keys` or `values`.
        what: &'static str,
        /// The largest magnitude that can be stored.
        most: f32,
        /// The first such element of the layer.
        found: f32,
        /// The first such layer.
        layer: usize,
        /// The position of the token after which logits were not finite, from 0.
        position: usize,
    },
    /// Settings of sampling are out of range.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
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
    /// A linear to calibrate is already encoded.
    #[error("`{module}`: expected plain weights to calibrate, found them encoded as {scheme}")]
    Encoded {
        /// The projection's name.
        module: String,
        /// Its scheme.
        scheme: Scheme,
    },
    /// The inputs of a linear overflow.
    #[error("`{module}`: expected inputs with a finite mean square, found {found} in channel {channel}")]
    Inputs {
        /// The projection's name.
        module: String,
        /// The input channel.
        channel: usize,
        /// Its mean square.
        found: f32,
    },
    /// The second moments of a linear's inputs cannot be used.
    #[error("`{module}`: {source}")]
    Moments {
        /// The projection's name.
        module: String,
        /// Why.
        source: HessianError,
    },
    /// A device failed.
    #[error("the device failed: {0}")]
    Device(String),
    /// A backend is not available.
    #[error("{0}")]
    Backend(String),
}

impl From<qins_quant::Error> for Error {
    fn from(error: qins_quant::Error) -> Self {
        Self::Model(error.into())
    }
}
