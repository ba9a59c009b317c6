//! `qins convert`.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::Args;
use qins_quant::{Scheme, checkpoint::Directory};

#[cfg(feature = "burn")]
use crate::args::DeviceArgs;
use crate::{
    Outcome,
    args::{EncodeArgs, ModelArgs, directory},
    model,
    notes::{note_left_out, note_unused},
    policy::{ByDefault, Engine, note_calibration, policy},
    progress::bytes_progress,
};

/// Write a checkpoint with encoded linears.
///
/// The result is a Hugging Face directory: encoded linears are stored as `<module>.weight_packed` with their parameters, all
/// other tensors are copied bit for bit, but for a head that equals the embedding it is tied to, and `quantization_config` in config.json lists the scheme of each linear. It appears
/// complete or not at all; a conversion that was killed can be run again.
///
/// q3 to q6, q8g and rate are calibrated: the plain model reads a standard text and what it writes itself, a block at a time, and its
/// inputs decide how each rounding error is made up for by the weights after it.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  qins convert --model DIR --scheme q8 --out DIR-q8
  qins convert --model DIR --scheme q3 --effort best --out DIR-q3
  qins convert --model DIR --scheme q4 --override down=q6 --override model.layers.0.*=q8 --out OUT
  qins convert --model DIR --target bits=4.5 --calibrate text.txt --out OUT
  qins convert --model DIR --scheme lossless --targets full --out OUT")]
pub(crate) struct Convert {
    #[command(flatten)]
    model: ModelArgs,
    /// The scheme: companded-f32, lossless, q8g, q8, q6, q5, q4, q3 or rate
    #[arg(long, required_unless_present = "target")]
    scheme: Option<Scheme>,
    #[command(flatten)]
    encode: EncodeArgs,
    /// Round each weight by itself, without running the model, as `--effort fast` does
    #[arg(long, conflicts_with_all = ["calibrate", "effort"])]
    no_calibrate: bool,
    /// Where to write: a directory that does not exist yet, or is empty
    #[arg(long, value_name = "DIR", value_parser = directory())]
    out: PathBuf,
    /// For calibration and `--target kl=` or `match=`, which run the model
    #[cfg(feature = "burn")]
    #[command(flatten)]
    device: DeviceArgs,
}

impl Convert {
    pub(crate) fn run(self) -> Outcome {
        let recipe = self.encode.recipe(self.scheme)?.ok_or("expected a --scheme, found none")?;
        // Before a download, a calibration or a search.
        Directory::check(&self.out)?;
        let source = model::open(&self.model)?;
        #[cfg(feature = "burn")]
        let engine = {
            self.device.set_up()?;
            Engine::of(self.device.backend)
        };
        #[cfg(not(feature = "burn"))]
        let engine = Engine::none();
        let by_default = if self.no_calibrate { ByDefault::Uncalibrated } else { ByDefault::Calibrated };
        let policy = policy(&self.encode, recipe, &source, &engine, by_default)?;
        let bar = bytes_progress(source.checkpoint.tensor_bytes() as u64, "encoding".to_owned());
        let written = engine.convert(&source, policy.clone(), |bytes| bar.inc(bytes), &self.out)?;
        bar.finish_and_clear();
        note_unused(&source.name, &written.unused);
        note_left_out(&source.name, &written.left_out);
        if !self.no_calibrate {
            note_calibration(&self.encode, &policy, &source);
        }
        let (before, after) = (written.bytes_before, written.bytes_after);
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
