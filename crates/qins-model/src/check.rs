//! Whether a checkpoint is one of a model.

use qins_quant::{Error as QuantError, checkpoint::Checkpoint};

use crate::{Error, ModelConfig, ModelTensor, tensors};

/// Checks that a checkpoint has all of a model's tensors, each with its shape.
///
/// # Errors
/// For the first tensor that is missing, no floating-point one where it is plain, or of the wrong shape.
pub fn check(checkpoint: &Checkpoint, config: &ModelConfig) -> Result<(), Error> {
    tensors(config).iter().try_for_each(|tensor| match tensor {
        ModelTensor::Linear(spec) if checkpoint.is_encoded(&spec.module) => spec.expect_encoded_shape(checkpoint),
        ModelTensor::Linear(spec) => spec.plain(checkpoint).map(drop),
        ModelTensor::Norm(spec) => spec.plain(checkpoint).map(drop),
    })
}

/// As [`check`], of a checkpoint that is to be encoded.
///
/// # Errors
/// As [`check`], and when the checkpoint is encoded already.
pub fn check_plain(checkpoint: &Checkpoint, config: &ModelConfig) -> Result<(), Error> {
    if checkpoint.quantization().is_some() {
        let message = "expected a plain checkpoint to encode, found one that is encoded already";
        return Err(QuantError::file(checkpoint.config_path(), message).into());
    }
    check(checkpoint, config)
}
