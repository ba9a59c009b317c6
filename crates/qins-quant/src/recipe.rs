//! How to encode a matrix.

use std::sync::Arc;

use crate::{Effort, Feedback, Prune, Scheme, forms::EncodeOptions};

/// How to encode a matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// The scheme.
    pub scheme: Scheme,
    /// Whether to entropy-code it in files; some schemes always are.
    pub coded: bool,
    /// The options of the encoder.
    pub options: EncodeOptions,
    /// The weight of each column's squared errors; see [`EncodedTensor::encode_as`](crate::EncodedTensor::encode_as).
    pub importance: Option<Arc<[f32]>>,
    /// What feeds errors back within the rows, with schemes that [use it](Scheme::uses_feedback).
    pub feedback: Option<Arc<Feedback>>,
}

impl Recipe {
    /// A scheme with options.
    pub fn new(scheme: Scheme, options: EncodeOptions) -> Self {
        Self { options, ..scheme.into() }
    }

    /// Whether its encoder would use feedback: pruned weights stay zeros, and so cannot make up for errors.
    pub fn uses_feedback(&self) -> bool {
        self.scheme.uses_feedback() && self.options.effort != Effort::Fast && self.options.prune == Prune::NONE
    }

    /// Whether it is entropy-coded in files.
    pub fn is_coded(&self) -> bool {
        self.coded || self.scheme.is_storage_only()
    }
}

impl From<Scheme> for Recipe {
    fn from(scheme: Scheme) -> Self {
        Self { scheme, coded: false, options: EncodeOptions::default(), importance: None, feedback: None }
    }
}
