//! Checks that a checkpoint has the tensors of its model, and finds those that it has besides.

use std::{collections::BTreeSet, fmt};

use qins_quant::{Error as QuantError, checkpoint::Checkpoint};

use crate::{Error, ModelConfig, ModelTensor, linears, stop_ids, tensors, tensors::copies};

/// Checks that a checkpoint has all tensors of a model, each with its shape and once, and end-of-text ids that are valid. Of the weights
/// only those that are stored twice are read.
///
/// # Errors
/// Naming the first tensor that is missing, has the wrong shape, is plain and not of a floating-point type, is stored both fused and by
/// itself, or is a head that differs from the embedding it is tied to; or a bias or norm besides, without which results
/// would differ.
pub fn check(checkpoint: &Checkpoint, config: &ModelConfig) -> Result<(), Error> {
    stop_ids(checkpoint.files(), config)?;
    expect_once(checkpoint, config)?;
    tensors(config).iter().try_for_each(|tensor| match tensor {
        ModelTensor::Linear(spec) if checkpoint.is_encoded(&spec.module) => spec.expect_encoded_shape(checkpoint),
        ModelTensor::Linear(spec) => spec.plain(checkpoint).map(drop),
        ModelTensor::Bias(spec) | ModelTensor::Norm(spec) => spec.plain(checkpoint).map(drop),
    })?;
    // In a block of the model; further blocks are only not used.
    let block = |tensor: &str| tensor.strip_prefix("model.layers.")?.split('.').next()?.parse::<usize>().ok();
    let changes = |tensor: &str| {
        (tensor.ends_with(".bias") || tensor.ends_with("norm.weight"))
            && block(tensor).is_none_or(|block| block < config.layers.len())
    };
    for unused in unused(checkpoint, config)? {
        if let Unused::Other(tensor) = unused
            && changes(&tensor)
        {
            let message = format!(
                "expected only biases and norms that a {} of this configuration has, found one more",
                config.model_type
            );
            return Err(QuantError::tensor(checkpoint.path_of(&tensor), tensor, message).into());
        }
    }
    Ok(())
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

/// Checks that no weights are stored twice and differently: a linear by itself and in a fused matrix, or a head beside the embedding it
/// is tied to.
fn expect_once(checkpoint: &Checkpoint, config: &ModelConfig) -> Result<(), Error> {
    let stored = |module: &str| {
        let plain = format!("{module}.weight");
        if checkpoint.contains(&plain) {
            Some(plain)
        } else {
            checkpoint.is_encoded(module).then(|| format!("{module}.weight_packed"))
        }
    };
    for spec in linears(config) {
        if let Some((fused, ..)) = &spec.fused
            && let (Some(own), Some(fused)) = (stored(&spec.module), stored(fused))
        {
            let message = format!("expected none, as `{fused}` has its rows, found both");
            return Err(QuantError::tensor(checkpoint.path_of(&own), own, message).into());
        }
    }
    let mut copies = copies(config).into_iter().filter(|(copy, _)| checkpoint.contains(copy));
    Ok(copies.try_for_each(|(copy, original)| checkpoint.expect_copy(&copy, &original))?)
}

/// A stored tensor that the model does not read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unused {
    /// It should have the weights of another, which the model reads: a head that is tied to the embedding.
    Copy {
        /// Its name.
        tensor: String,
        /// The tensor that is read.
        original: String,
    },
    /// Any other.
    Other(String),
}

impl fmt::Display for Unused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copy { tensor, original } => write!(f, "{tensor} (tied to {original}, which is used)"),
            Self::Other(tensor) => f.write_str(tensor),
        }
    }
}

/// The stored tensors that the model does not read, except tables of rotation frequencies, which follow from the configuration.
///
/// # Errors
/// When the shape of an encoded linear is missing or damaged.
pub fn unused(checkpoint: &Checkpoint, config: &ModelConfig) -> Result<Vec<Unused>, Error> {
    let mut used = BTreeSet::new();
    for tensor in tensors(config) {
        match tensor {
            ModelTensor::Linear(spec) if checkpoint.is_encoded(&spec.module) => {
                used.extend(checkpoint.tensors_of_module(&spec.module)?);
            }
            ModelTensor::Linear(spec) => drop(used.insert(spec.place(checkpoint).0)),
            ModelTensor::Bias(spec) | ModelTensor::Norm(spec) => drop(used.insert(spec.name)),
        }
    }
    let copies = copies(config);
    let others = checkpoint.tensors().filter(|name| !used.contains(*name) && !name.ends_with("rotary_emb.inv_freq"));
    let unused = others.map(|name| match copies.get(name) {
        Some(original) => Unused::Copy { tensor: name.to_owned(), original: original.clone() },
        None => Unused::Other(name.to_owned()),
    });
    Ok(unused.collect())
}
