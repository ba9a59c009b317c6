//! How to encode a matrix.

use std::{error::Error, sync::Arc};

use crate::{Calibration, Effort, Feedback, Prune, Scheme, forms::EncodeOptions};

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

    /// The recipe for a linear with the importance and the feedback of a calibration, as far as its scheme uses them.
    ///
    /// # Errors
    /// When the calibration fails.
    pub fn calibrated(
        &self,
        module: &str,
        calibration: &mut dyn Calibration,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let mut calibrated = self.clone();
        if self.uses_feedback() {
            calibrated.feedback = calibration.feedback(module)?;
        }
        if self.scheme.uses_importance() || self.options.prune != Prune::NONE {
            let importance = match &calibrated.feedback {
                Some(feedback) => Some(Arc::clone(feedback.importance())),
                None => calibration.importance(module)?,
            };
            calibrated.importance = importance.or(calibrated.importance);
        }
        Ok(calibrated)
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
