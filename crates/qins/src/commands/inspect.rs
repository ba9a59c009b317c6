//! `qins inspect`.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::Args;
use qins_model::{ModelConfig, check, unused};
use qins_quant::inspect::{Tensor, inspect};

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

impl Inspect {
    pub(crate) fn run(self) -> Outcome {
        let source = model::open(&ModelArgs::named(self.dir))?;
        let against = self.against.map(|model| model::open_named(&model)).transpose()?.map(|source| source.checkpoint);
        let bar = bytes_progress(source.checkpoint.tensor_bytes() as u64, "reading".to_owned());
        let inspection = inspect(&source.checkpoint, against.as_ref(), &|bytes| bar.inc(bytes))?;
        bar.finish_and_clear();
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
