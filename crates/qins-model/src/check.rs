//! Checks that a checkpoint has the tensors of its model.

use qins_quant::{Error as QuantError, checkpoint::Checkpoint};

use crate::{Error, ModelConfig, ModelTensor, tensors};

/// Checks that a checkpoint has all tensors of a model, each with its shape.
///
/// # Errors
/// Naming the first tensor that is missing, has the wrong shape, is plain and not of a floating-point type, or is a bias.
pub fn check(checkpoint: &Checkpoint, config: &ModelConfig) -> Result<(), Error> {
    expect_no_bias(checkpoint)?;
    tensors(config).iter().try_for_each(|tensor| match tensor {
        ModelTensor::Linear(spec) if checkpoint.is_encoded(&spec.module) => spec.expect_encoded_shape(checkpoint),
        ModelTensor::Linear(spec) => spec.plain(checkpoint).map(drop),
        ModelTensor::Norm(spec) => spec.plain(checkpoint).map(drop),
    })
}

/// Checks that a checkpoint has no bias: the supported models have none, and without it a model would give other results.
fn expect_no_bias(checkpoint: &Checkpoint) -> Result<(), Error> {
    match checkpoint.tensors().find(|name| name.ends_with(".bias")) {
        None => Ok(()),
        Some(bias) => {
            let message = "expected linears and norms without biases, found one";
            Err(QuantError::tensor(checkpoint.path_of(bias), bias, message).into())
        }
    }
}

/// As [`check`], for a checkpoint that will be encoded.
///
/// # Errors
/// As [`check`], and when the checkpoint is already encoded.
pub fn check_plain(checkpoint: &Checkpoint, config: &ModelConfig) -> Result<(), Error> {
    if checkpoint.quantization().is_some() {
        let message = "expected a plain checkpoint to encode, found one that is encoded already";
        return Err(QuantError::file(checkpoint.config_path(), message).into());
    }
    check(checkpoint, config)
}
