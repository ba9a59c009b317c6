//! `qins convert`.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::Args;
use qins_burn::{Backend, Scheme, phi3::ModelConfig};
use qins_quant::{
    checkpoint::{Checkpoint, Files},
    convert::convert,
};

use crate::{
    Outcome,
    args::{EncodeArgs, ModelArgs},
    model::{Source, bytes_progress},
    policy::policy,
};

/// Write a checkpoint with encoded linears.
///
/// The result is a Hugging Face directory again: encoded linears rest as `<module>.weight_packed` with their
/// parameters, everything else is copied bit for bit, and `quantization_config` in config.json says which is which.
/// It appears whole or not at all; a conversion that was killed is simply run again.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  qins convert --model DIR --scheme q8 --out DIR-q8
  qins convert --model DIR --scheme q4 --override down=q6 --override model.layers.0.*=q8 --out OUT
  qins convert --model DIR --target bits=4.5 --calibrate text.txt --out OUT
  qins convert --model DIR --scheme lossless --targets full --out OUT")]
pub(crate) struct Convert {
    #[command(flatten)]
    model: ModelArgs,
    /// How to encode: f32, lossless, q8g, q8, q6, q5, q4, q3 or rate
    #[arg(long, required_unless_present = "target")]
    scheme: Option<Scheme>,
    #[command(flatten)]
    encode: EncodeArgs,
    /// Where to write: a directory that does not exist yet, or is empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Convert {
    pub(crate) fn run(self) -> Outcome {
        let recipe = self.encode.recipe(self.scheme)?.ok_or("expected a --scheme, found none")?;
        let source = Source::open(&self.model)?;
        let checkpoint = &source.checkpoint;
        let config = ModelConfig::parse(checkpoint.config(), &checkpoint.config_path())?;
        let policy = policy(&self.encode, recipe, &source, &Backend::Flex.device()?)?;
        let bar = bytes_progress(checkpoint.tensor_bytes() as u64, "encoding".to_owned());
        convert(checkpoint, &self.out, &policy.parts(&config), &|bytes| bar.inc(bytes))?;
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
