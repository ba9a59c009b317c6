//! `qins verify`.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::Args;
use qins_quant::{
    Error, Fidelity,
    checkpoint::{Checkpoint, Files},
    verify::verify,
};
use serde_json::json;

use crate::{Outcome, model::bytes_progress};

/// Check that a checkpoint is what was written, and how near it is to its source.
///
/// Every tensor is compared with its checksum and every encoded linear decoded. With `--against` every linear is compared
/// with the plain weights it was made of: those of `lossless`, and whatever is not encoded, must be the same bits.
/// Exit codes: 0 nothing wrong, 1 something is, 2 could not look.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The checkpoint
    dir: PathBuf,
    /// The plain checkpoint it was made of
    #[arg(long, value_name = "SOURCE")]
    against: Option<PathBuf>,
    /// Fail where an encoded linear keeps fewer dB of signal over error
    #[arg(long, value_name = "DB", requires = "against")]
    min_sqnr: Option<f64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(crate) fn run(self) -> Outcome {
        let mut out = std::io::stdout().lock();
        let checkpoint = match Checkpoint::open(Files::Directory(self.dir.clone())) {
            Ok(checkpoint) => checkpoint,
            // What is there is no checkpoint: that is what was asked. What is not there cannot be looked at.
            Err(fault @ (Error::File { .. } | Error::Tensor { .. })) if self.dir.join("config.json").is_file() => {
                return self.tell(&mut out, &[fault.to_string()], 0, &[]);
            }
            Err(error) => return Err(error.into()),
        };
        let source = self.against.clone().map(|dir| Checkpoint::open(Files::Directory(dir))).transpose()?;
        let bar = bytes_progress(checkpoint.tensor_bytes() as u64, "verifying".to_owned());
        let found = verify(&checkpoint, source.as_ref(), &|bytes| bar.inc(bytes))?;
        bar.finish_and_clear();
        let mut faults: Vec<String> = found.faults.iter().map(ToString::to_string).collect();
        for module in &found.modules {
            if let (Some(least), Some(db)) = (self.min_sqnr, module.fidelity.sqnr_db())
                && db < least
            {
                faults.push(format!("`{}`: expected {least} dB or more, found {db:.2}", module.name));
            }
        }
        let modules: Vec<_> = found.modules.iter().map(|m| (m.name.as_str(), m.scheme.name(), m.fidelity)).collect();
        self.tell(&mut out, &faults, found.checksums, &modules)
    }

    fn tell(
        &self,
        out: &mut impl Write,
        faults: &[String],
        checksums: usize,
        modules: &[(&str, &str, Fidelity)],
    ) -> Outcome {
        if self.json {
            let modules: Vec<_> = modules
                .iter()
                .map(|(name, scheme, f)| {
                    json!({ "name": name, "scheme": scheme, "sqnr_db": f.sqnr_db(), "cosine": f.cosine(),
                            "changed": f.changed, "weights": f.weights })
                })
                .collect();
            let report =
                json!({ "ok": faults.is_empty(), "checksums": checksums, "faults": faults, "modules": modules });
            writeln!(out, "{report}")?;
        } else {
            for (name, scheme, fidelity) in modules {
                let decibels = fidelity.sqnr_db().map_or("exact".to_owned(), |db| format!("{db:.2} dB"));
                let cosine = fidelity.cosine().map_or(String::new(), |cosine| format!("cosine {cosine:.7}"));
                writeln!(out, "{name:<52} {scheme:<8} {decibels:>10}  {cosine}")?;
            }
            faults.iter().try_for_each(|fault| writeln!(out, "fault: {fault}"))?;
            match faults.len() {
                0 => writeln!(out, "{}: nothing wrong, {checksums} checksums", self.dir.display())?,
                n => writeln!(out, "{}: {n} faults", self.dir.display())?,
            }
        }
        Ok(ExitCode::from(u8::from(!faults.is_empty())))
    }
}
