//! The schemes, shapes and bits per weight of a checkpoint's tensors.

use serde::Serialize;

use crate::{Error, Scheme, checkpoint::Checkpoint, expect_source, verify::module_fidelity};

/// What a checkpoint has.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Inspection {
    /// Bytes of all tensors.
    pub file_bytes: usize,
    /// Number of encoded weights.
    pub encoded_weights: usize,
    /// Of the encoded weights, scales and other parameters included.
    pub bits_per_weight: Option<f64>,
    /// Its matrices and other tensors, by name.
    pub tensors: Vec<Tensor>,
}

/// A stored matrix or tensor.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Tensor {
    /// The name it has, or had, in a plain checkpoint.
    pub name: String,
    /// A scheme's name, or the type of a plain tensor.
    pub scheme: String,
    /// Of an encoded one, `[out, in]`.
    pub shape: Vec<usize>,
    /// Of an encoded one, parameters included.
    pub bits_per_weight: f64,
    /// SQNR against the source, where there is one and the two differ.
    pub sqnr_db: Option<f64>,
    /// SQNR of its outputs on the calibration it was converted with, where it has error feedback.
    pub output_sqnr_db: Option<f64>,
    /// Cosine similarity with the source.
    pub cosine: Option<f64>,
}

/// Lists the matrices and tensors of a checkpoint, and with `against`, the plain one it was converted from, the error of each. `progress` is
/// called with the bytes read since its last call.
///
/// # Errors
/// When `against` is not plain, or an encoded module is damaged or not in it.
pub fn inspect(
    checkpoint: &Checkpoint,
    against: Option<&Checkpoint>,
    progress: &dyn Fn(u64),
) -> Result<Inspection, Error> {
    against.map_or(Ok(()), expect_source)?;
    let mut tensors = Vec::new();
    let (mut weights, mut bytes) = (0, 0);
    for name in checkpoint.tensors() {
        let Some((dtype, shape, stored)) = checkpoint.raw(name) else { continue };
        progress(stored.len() as u64);
        let encoded = name.rsplit_once(".weight_").filter(|(module, _)| checkpoint.is_encoded(module));
        let tensor = match encoded {
            None => Tensor {
                name: name.to_owned(),
                scheme: format!("{dtype:?}").to_lowercase(),
                shape: shape.to_vec(),
                bits_per_weight: dtype.bitsize() as f64,
                sqnr_db: None,
                output_sqnr_db: None,
                cosine: None,
            },
            // One row for all tensors that store a matrix. It is decoded, so that a damaged one is reported.
            Some((module, "packed")) => {
                let fidelity = module_fidelity(checkpoint, against, module)?.map(|module| module.fidelity);
                let shape = checkpoint.encoded_shape(module)?;
                let stored = checkpoint.bytes_of_module(module)?;
                weights += shape[0] * shape[1];
                bytes += stored;
                Tensor {
                    name: format!("{module}.weight"),
                    scheme: checkpoint.scheme(module).map_or("", Scheme::name).to_owned(),
                    shape: shape.to_vec(),
                    bits_per_weight: stored as f64 * 8.0 / (shape[0] * shape[1]).max(1) as f64,
                    sqnr_db: fidelity.and_then(|f| f.sqnr_db()),
                    output_sqnr_db: checkpoint.output_sqnr_db(module),
                    cosine: fidelity.and_then(|f| f.cosine()),
                }
            }
            Some(_) => continue,
        };
        tensors.push(tensor);
    }
    Ok(Inspection {
        file_bytes: checkpoint.tensor_bytes(),
        encoded_weights: weights,
        bits_per_weight: (weights > 0).then(|| bytes as f64 * 8.0 / weights as f64),
        tensors,
    })
}
