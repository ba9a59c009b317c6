//! `qins convert`.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::Args;
use qins_burn::{Scheme, check, phi3::ModelConfig};
use qins_quant::{
    checkpoint::{Checkpoint, Files},
    convert::convert,
};

use crate::{
    Outcome,
    args::{EncodeArgs, ModelArgs},
    model::{Source, progress},
};

/// Write a checkpoint with encoded linears.
///
/// The result is a Hugging Face directory again: encoded linears rest as `<module>.weight_packed` with their
/// parameters, everything else is copied bit for bit, and `quantization_config` in config.json says which is which.
/// It appears whole or not at all.
#[derive(Debug, Args)]
pub(crate) struct Convert {
    #[command(flatten)]
    model: ModelArgs,
    /// How to encode: f32, q8g, q8, q6, q5, q4 or q3
    #[arg(long)]
    scheme: Scheme,
    #[command(flatten)]
    encode: EncodeArgs,
    /// Where to write: a directory that does not exist yet, or is empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Convert {
    pub(crate) fn run(self) -> Outcome {
        let source = Source::open(&self.model)?;
        let checkpoint = &source.checkpoint;
        let config = ModelConfig::parse(checkpoint.config(), &checkpoint.config_path())?;
        check(checkpoint, &config)?;
        let parts = self.encode.targets.parts(&config, self.scheme);
        let bar = progress(checkpoint.tensor_bytes() as u64, format!("encoding {}", self.scheme));
        convert(checkpoint, &self.out, &self.encode.options(), &parts, &|bytes| bar.inc(bytes))?;
        bar.finish_and_clear();
        let written = Checkpoint::open(Files::Directory(self.out.clone()))?;
        let (before, after) = (checkpoint.tensor_bytes(), written.tensor_bytes());
        writeln!(
            std::io::stdout(),
            "{}: {} → {} ({:.1} %)",
            self.out.display(),
            indicatif::HumanBytes(before as u64),
            indicatif::HumanBytes(after as u64),
            100.0 * after as f64 / before.max(1) as f64
        )?;
        Ok(ExitCode::SUCCESS)
    }
}
