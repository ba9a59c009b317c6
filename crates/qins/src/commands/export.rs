//! `qins export`.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::{Args, ValueEnum};
use qins_model::{ModelConfig, check, unused};
use qins_quant::{
    FloatDtype,
    checkpoint::{Checkpoint, Directory, Files},
    export::export,
};

use crate::{
    Outcome,
    args::directory,
    model,
    notes::{note_left_out, note_unused},
    progress::bytes_progress,
};

/// Decode an encoded checkpoint into a plain one, which other programs can run.
///
/// Every weight is decoded, and fused matrices that were split are fused again. A `lossless` checkpoint gives the bytes of its
/// source. The result appears complete or not at all.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The encoded checkpoint: a directory, or `owner/name[@revision]` on the hub
    #[arg(value_name = "MODEL")]
    dir: PathBuf,
    /// Where to write: a directory that does not exist yet, or is empty
    #[arg(long, value_name = "DIR", value_parser = directory())]
    out: PathBuf,
    /// The type of all floating-point tensors [default: that of the source]
    #[arg(long)]
    dtype: Option<Dtype>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Dtype {
    Bf16,
    F16,
    F32,
}

impl From<Dtype> for FloatDtype {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Bf16 => Self::Bf16,
            Dtype::F16 => Self::F16,
            Dtype::F32 => Self::F32,
        }
    }
}

impl Export {
    pub(crate) fn run(self) -> Outcome {
        // Before a download.
        Directory::check(&self.out)?;
        let source = model::open_named(&self.dir)?;
        let checkpoint = source.checkpoint;
        // Other programs read what is exported; a model that this one does not know is exported as it is.
        let unused = match ModelConfig::of(&checkpoint) {
            Ok(config) => {
                check(&checkpoint, &config)?;
                unused(&checkpoint, &config)?
            }
            Err(error) if model::is_known(&checkpoint) => return Err(error.into()),
            Err(_) => Vec::new(),
        };
        let bar = bytes_progress(checkpoint.tensor_bytes() as u64, "decoding".to_owned());
        let left_out = export(&checkpoint, &self.out, self.dtype.map(Into::into), &|bytes| bar.inc(bytes))?;
        bar.finish_and_clear();
        note_unused(&source.name, &unused);
        note_left_out(&source.name, &left_out);
        let written = Checkpoint::open(Files::Directory(self.out.clone()))?;
        let [before, after] = [&checkpoint, &written].map(|c| indicatif::HumanBytes(c.tensor_bytes() as u64));
        writeln!(std::io::stdout(), "{}: {before} → {after}", self.out.display())?;
        Ok(ExitCode::SUCCESS)
    }
}
