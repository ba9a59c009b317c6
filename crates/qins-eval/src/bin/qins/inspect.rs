//! `qins inspect`.

use std::{collections::HashMap, error::Error, io::Write, path::PathBuf, process::ExitCode};

use clap::Args;
use qins_burn::{linears, phi3::ModelConfig};
use qins_quant::checkpoint::Checkpoint;
use serde::Serialize;

use crate::{Outcome, args::ModelArgs, model::Source};

/// Show how a checkpoint's tensors rest, and what they cost.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The checkpoint [default: the embedded model]
    dir: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Inspection {
    /// Bytes of all tensors.
    file_bytes: usize,
    /// Weights that rest encoded.
    encoded_weights: usize,
    /// Of those, parameters included.
    bits_per_weight: Option<f64>,
    tensors: Vec<Tensor>,
}

#[derive(Debug, Serialize)]
struct Tensor {
    name: String,
    /// A scheme's name, or the type of a plain tensor.
    scheme: String,
    shape: Vec<usize>,
    bits_per_weight: f64,
}

impl Inspect {
    pub(crate) fn run(self) -> Outcome {
        let source = Source::open(&ModelArgs { model: self.dir })?;
        let inspection = inspect(&source.checkpoint)?;
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&inspection)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        writeln!(out, "{:<52} {:<8} {:>16} {:>10}", "tensor", "scheme", "shape", "bits")?;
        for tensor in &inspection.tensors {
            let Tensor { name, scheme, bits_per_weight, .. } = tensor;
            writeln!(out, "{name:<52} {scheme:<8} {:>16} {bits_per_weight:>10.3}", format!("{:?}", tensor.shape))?;
        }
        writeln!(out, "\n{}: {}", source.name, indicatif::HumanBytes(inspection.file_bytes as u64))?;
        match inspection.bits_per_weight {
            Some(bits) => {
                let weights = indicatif::HumanCount(inspection.encoded_weights as u64);
                writeln!(out, "encoded: {weights} weights at {bits:.3} bits each, parameters included")?;
            }
            None => writeln!(out, "nothing is encoded")?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn inspect(checkpoint: &Checkpoint) -> Result<Inspection, Box<dyn Error>> {
    let mut tensors = Vec::new();
    let (mut weights, mut bytes) = (0, 0);
    // Packed codes do not tell how many weights a row has; the model does.
    let shapes: HashMap<String, [usize; 2]> = match checkpoint.quantization() {
        None => HashMap::new(),
        Some(_) => {
            let config = ModelConfig::parse(checkpoint.config(), &checkpoint.config_path())?;
            linears(&config).into_iter().map(|spec| (spec.module, spec.shape)).collect()
        }
    };
    for name in checkpoint.tensors() {
        let Some((dtype, shape, _)) = checkpoint.raw(name) else { continue };
        let encoded = name.rsplit_once(".weight_").filter(|(module, _)| checkpoint.is_encoded(module));
        let tensor = match encoded {
            None => Tensor {
                name: name.to_owned(),
                scheme: format!("{dtype:?}").to_lowercase(),
                shape: shape.to_vec(),
                bits_per_weight: dtype.bitsize() as f64,
            },
            // The matrix stands for the tensors it rests in; it is read, so that a damaged one is not passed over.
            Some((module, "packed")) => {
                let Some(&[rows, cols]) = shapes.get(module) else {
                    return Err(format!("`{name}`: expected a linear of the model, found none of this name").into());
                };
                let matrix = checkpoint.encoded(module, [rows, cols])?;
                weights += rows * cols;
                bytes += matrix.bytes();
                Tensor {
                    name: format!("{module}.weight"),
                    scheme: matrix.scheme().to_string(),
                    shape: vec![rows, cols],
                    bits_per_weight: matrix.bytes() as f64 * 8.0 / (rows * cols).max(1) as f64,
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
