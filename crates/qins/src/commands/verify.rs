//! `qins verify`.

use std::{
    io::{ErrorKind, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use qins_model::{ModelConfig, check};
use qins_quant::{
    Error, Fidelity,
    checkpoint::{Checkpoint, Files},
    verify::verify,
};
use serde_json::json;

use crate::{Outcome, model, progress::bytes_progress};

/// Check that a checkpoint is what was written, and how near it is to its source.
///
/// Every tensor is compared with its checksum and every encoded linear decoded. With `--against` every linear is compared
/// with the plain weights it was made of: those of `lossless`, and whatever is not encoded, must be the same bits.
/// A plain checkpoint has no checksums: of it only the headers can be checked, and its bytes with `--against`.
/// Exit codes: 0 nothing wrong, 1 something is, 2 could not look.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The checkpoint: a directory, or `owner/name[@revision]` on the hub
    #[arg(value_name = "MODEL")]
    dir: PathBuf,
    /// The plain checkpoint it was made of
    #[arg(long, value_name = "SOURCE")]
    against: Option<PathBuf>,
    /// Fail where an encoded linear keeps fewer dB of signal over error; less than 0 is what no encoding leaves of its own
    /// source
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
        let (_, dir) = model::locate(&self.dir, false)?;
        let checkpoint = match Checkpoint::open(Files::Directory(dir.clone())) {
            Ok(checkpoint) => checkpoint,
            // What is there is no whole checkpoint: that is what was asked. What is not there cannot be looked at.
            Err(fault) if dir.join("config.json").is_file() && !is_unreadable(&fault) => {
                return self.tell(&mut out, &[fault.to_string()], 0, &[]);
            }
            Err(error) => return Err(error.into()),
        };
        let source =
            self.against.as_ref().map(|model| model::open_named(model)).transpose()?.map(|source| source.checkpoint);
        let decoded: usize = checkpoint.encoded_modules().filter_map(|m| checkpoint.bytes_of_module(m).ok()).sum();
        let bar = bytes_progress((checkpoint.tensor_bytes() + decoded) as u64, "verifying".to_owned());
        let found = verify(&checkpoint, source.as_ref(), &|bytes| bar.inc(bytes))?;
        bar.finish_and_clear();
        let mut faults: Vec<String> = found.faults.iter().map(ToString::to_string).collect();
        for module in &found.modules {
            if let Some(db) = module.fidelity.sqnr_db().filter(|db| *db < self.min_sqnr) {
                faults.push(format!("`{}`: expected {} dB or more, found {db:.2}", module.name, self.min_sqnr));
            }
        }
        let config = ModelConfig::of(&checkpoint);
        let fault = config.and_then(|config| check(&checkpoint, &config)).err().map(|fault| fault.to_string());
        // A tensor's damage may have been found already.
        faults.extend(fault.filter(|fault| !faults.contains(fault)));
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
            let verdict = match (faults.len(), checksums) {
                (0, 0) => "nothing wrong; no checksums, as it is plain".to_owned(),
                (0, n) => format!("nothing wrong, {n} checksums"),
                (1, _) => "1 fault".to_owned(),
                (n, _) => format!("{n} faults"),
            };
            writeln!(out, "{}: {verdict}", self.dir.display())?;
        }
        Ok(ExitCode::from(u8::from(!faults.is_empty())))
    }
}

/// Whether a file is there that this process cannot read: that says nothing about what is in it.
fn is_unreadable(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() != ErrorKind::NotFound)
}

fn parse_decibels(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|db: &f64| db.is_finite())
        .ok_or_else(|| format!("expected a number of dB, found `{text}`"))
}
