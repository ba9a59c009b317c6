//! `qins inspect`.

use std::{error::Error, io::Write, path::PathBuf, process::ExitCode};

use clap::Args;
use qins_model::{ModelConfig, check, unused};
use qins_quant::{Scheme, checkpoint::Checkpoint, expect_source, verify::module_fidelity};
use serde::Serialize;

use crate::{
    Outcome,
    args::ModelArgs,
    model,
    notes::note_unused,
    progress::{bytes_progress, note},
};

/// Show the scheme, shape and bits per weight of a checkpoint's tensors.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The checkpoint: a directory, or `owner/name[@revision]` on the hub [default: the embedded model]
    #[arg(value_name = "MODEL")]
    dir: Option<PathBuf>,
    /// The plain checkpoint it was converted from: show the error of each linear
    #[arg(long, value_name = "SOURCE")]
    against: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Inspection {
    /// Bytes of all tensors.
    file_bytes: usize,
    /// Number of encoded weights.
    encoded_weights: usize,
    /// Of the encoded weights, scales and other parameters included.
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
    /// SQNR against the source, where there is one and the two differ.
    sqnr_db: Option<f64>,
    /// SQNR of its outputs on the calibration it was converted with, where it has error feedback.
    output_sqnr_db: Option<f64>,
    /// Cosine similarity with the source.
    cosine: Option<f64>,
}

impl Inspect {
    pub(crate) fn run(self) -> Outcome {
        let source = model::open(&ModelArgs::named(self.dir))?;
        let against = self.against.map(|model| model::open_named(&model)).transpose()?.map(|source| source.checkpoint);
        let inspection = inspect(&source.checkpoint, against.as_ref())?;
        // Any checkpoint can be inspected, of a model that this program does not know as well.
        match ModelConfig::of(&source.checkpoint) {
            Ok(config) => {
                note_unused(&source.name, &unused(&source.checkpoint, &config)?);
                if let Err(fault) = check(&source.checkpoint, &config) {
                    note(&fault.to_string());
                }
            }
            Err(fault) if model::is_known(&source.checkpoint) => note(&fault.to_string()),
            Err(_) => {}
        }
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&inspection)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let has_feedback = inspection.tensors.iter().any(|tensor| tensor.output_sqnr_db.is_some());
        let outputs = if has_feedback { "  output dB" } else { "" };
        let header = if against.is_some() { "   SQNR dB     cosine" } else { "" };
        writeln!(out, "{:<52} {:<13} {:>16} {:>10}{outputs}{header}", "tensor", "scheme", "shape", "bpw")?;
        for tensor in &inspection.tensors {
            let Tensor { name, scheme, bits_per_weight, sqnr_db, output_sqnr_db, cosine, .. } = tensor;
            let outputs = match output_sqnr_db {
                Some(db) => format!("{db:>11.2}"),
                None if has_feedback => format!("{:>11}", "-"),
                None => String::new(),
            };
            let compared = match (cosine, sqnr_db) {
                (Some(cosine), Some(db)) => format!("{db:>10.2} {cosine:>10.7}"),
                (Some(cosine), None) => format!("{:>10} {cosine:>10.7}", "exact"),
                // Of zeros there is no cosine.
                (None, Some(db)) => format!("{db:>10.2} {:>10}", "-"),
                (None, None) => String::new(),
            };
            let shape = format!("{:?}", tensor.shape);
            writeln!(out, "{name:<52} {scheme:<13} {shape:>16} {bits_per_weight:>10.3}{outputs}{compared}")?;
        }
        if has_feedback {
            let what = "output dB: SQNR of a linear's outputs on the calibration; error feedback raises it, and lowers that of the weights";
            writeln!(out, "\n{what}")?;
        }
        writeln!(out, "\n{}: {}", source.name, indicatif::HumanBytes(inspection.file_bytes as u64))?;
        match inspection.bits_per_weight {
            Some(bits) => {
                let weights = indicatif::HumanCount(inspection.encoded_weights as u64);
                writeln!(out, "encoded: {weights} weights at {bits:.3} bits per weight (bpw), parameters included")?;
            }
            None => writeln!(out, "nothing is encoded")?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn inspect(checkpoint: &Checkpoint, against: Option<&Checkpoint>) -> Result<Inspection, Box<dyn Error>> {
    against.map_or(Ok(()), expect_source)?;
    let bar = bytes_progress(checkpoint.tensor_bytes() as u64, "reading".to_owned());
    let mut tensors = Vec::new();
    let (mut weights, mut bytes) = (0, 0);
    for name in checkpoint.tensors() {
        let Some((dtype, shape, stored)) = checkpoint.raw(name) else { continue };
        bar.inc(stored.len() as u64);
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
    bar.finish_and_clear();
    Ok(Inspection {
        file_bytes: checkpoint.tensor_bytes(),
        encoded_weights: weights,
        bits_per_weight: (weights > 0).then(|| bytes as f64 * 8.0 / weights as f64),
        tensors,
    })
}
