//! How a matrix shall be encoded.

use std::sync::Arc;

use crate::{Scheme, forms::EncodeOptions};

/// How a matrix shall be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// What is stored.
    pub scheme: Scheme,
    /// Whether a file holds it entropy-coded, beyond the schemes that always are.
    pub coded: bool,
    /// How it is encoded.
    pub options: EncodeOptions,
    /// How much the squared errors of each column count; see [`EncodedTensor::encode_as`](crate::EncodedTensor::encode_as).
    pub importance: Option<Arc<[f32]>>,
}

impl Recipe {
    /// A scheme with options.
    pub fn new(scheme: Scheme, options: EncodeOptions) -> Self {
        Self { options, ..scheme.into() }
    }

    /// Whether a file holds it entropy-coded.
    pub fn is_coded(&self) -> bool {
        self.coded || self.scheme.is_storage_only()
    }
}

impl From<Scheme> for Recipe {
    fn from(scheme: Scheme) -> Self {
        Self { scheme, coded: false, options: EncodeOptions::default(), importance: None }
    }
}
