//! `qins verify`.

use std::{
    io::{ErrorKind, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use qins_model::{Verification, verify};
use qins_quant::{
    Error,
    checkpoint::{Checkpoint, Files},
};
use serde_json::json;

use crate::{Outcome, model, progress::bytes_progress};

/// Check the integrity of a checkpoint, and its error against its source.
///
/// The ratio in dB is that of the weights. Error feedback lowers it by 1 to 3 dB while the outputs come nearer: their ratio, on the
/// calibration of the conversion, is beside it.
/// Every tensor is compared with its checksum, and every encoded linear is decoded. With `--against`, every linear is compared
/// with the plain weights it was converted from; `lossless` ones, and tensors that are not encoded, must have the same bits.
/// A plain checkpoint has no checksums: only its headers can be checked, and its bytes with `--against`.
/// Exit codes: 0 no fault, 1 a fault was found, 2 the checkpoint could not be read.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The checkpoint: a directory, or `owner/name[@revision]` on the hub
    #[arg(value_name = "MODEL")]
    dir: PathBuf,
    /// The plain checkpoint it was converted from
    #[arg(long, value_name = "SOURCE")]
    against: Option<PathBuf>,
    /// Minimum SQNR of every encoded linear in dB; 0 dB itself, where nothing is left of the weights, is a fault too
    #[arg(long, value_name = "DB", requires = "against", default_value_t = 0.0, value_parser = parse_decibels,
          allow_negative_numbers = true)]
    min_sqnr: f64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(crate) fn run(self) -> Outcome {
        let mut out = std::io::stdout().lock();
        let (name, dir) = model::locate(&self.dir, false)?;
        let files = Files::Directory(dir.clone());
        model::note_choice(&name, &files);
        let checkpoint = match Checkpoint::open(files) {
            Ok(checkpoint) => checkpoint,
            // A checkpoint that is incomplete or invalid is a fault; one that is missing or unreadable is an error.
            Err(fault) if dir.join("config.json").is_file() && !is_unreadable(&fault) => {
                return self.print(&mut out, &Verification::of_fault(&fault));
            }
            Err(error) => return Err(error.into()),
        };
        let source =
            self.against.as_ref().map(|model| model::open_named(model)).transpose()?.map(|source| source.checkpoint);
        let decoded: usize = checkpoint.encoded_modules().filter_map(|m| checkpoint.bytes_of_module(m).ok()).sum();
        let bar = bytes_progress((checkpoint.tensor_bytes() + decoded) as u64, "verifying".to_owned());
        let found = verify(&checkpoint, source.as_ref(), self.min_sqnr, &|bytes| bar.inc(bytes))?;
        bar.finish_and_clear();
        self.print(&mut out, &found)
    }

    fn print(&self, out: &mut impl Write, found: &Verification) -> Outcome {
        if self.json {
            writeln!(out, "{}", json!(found))?;
        } else {
            for module in &found.modules {
                let decibels = module.sqnr_db.map_or("exact".to_owned(), |db| format!("{db:.2} dB"));
                let cosine = module.cosine.map_or(String::new(), |cosine| format!("cosine {cosine:.7}"));
                let outputs = module.output_sqnr_db.map_or(String::new(), |db| format!("  outputs {db:.2} dB"));
                writeln!(out, "{:<52} {:<13} {decibels:>10}  {cosine}{outputs}", module.name, module.scheme)?;
            }
            found.faults.iter().try_for_each(|fault| writeln!(out, "fault: {fault}"))?;
            let verdict = match (found.faults.len(), found.checksums) {
                (0, 0) => "no faults; no checksums, as it is plain".to_owned(),
                (0, n) => format!("no faults, {n} checksums"),
                (1, _) => "1 fault".to_owned(),
                (n, _) => format!("{n} faults"),
            };
            writeln!(out, "{}: {verdict}", self.dir.display())?;
        }
        Ok(ExitCode::from(u8::from(!found.ok)))
    }
}

/// Whether a file exists but cannot be read, so that nothing is known about its content.
fn is_unreadable(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() != ErrorKind::NotFound)
}

fn parse_decibels(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|db: &f64| db.is_finite())
        .ok_or_else(|| format!("expected a number of dB, found `{text}`"))
}
