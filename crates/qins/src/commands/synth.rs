//! `qins synth`.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::Args;
use indicatif::HumanBytes;
use qins_model::{ModelConfig, write_random_checkpoint};
use qins_quant::checkpoint::{Checkpoint, Files};

use crate::{
    Outcome,
    args::directory,
    progress::{bytes_progress, note},
    shapes::shapes,
};

/// Write a checkpoint of random weights with the tensors of a model.
///
/// It shows what a model of that size needs of a machine before it is downloaded: converting, loading, generating,
/// validating. The weights are bf16, in shards as on the hub. The directory appears complete or not at all.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  qins synth --config phi-3.5-mini --out phi-synthetic
  qins synth --config phi-3.5-mini --blocks 2 --out small
  qins convert --model phi-synthetic --scheme q4 --targets full --out phi-synthetic-q4")]
pub(crate) struct Synth {
    /// The shapes: a config.json, or `phi-3.5-mini`, `llama-3.1-8b` and others that are built in; an unknown name lists them
    #[arg(long, value_name = "CONFIG")]
    config: PathBuf,
    /// Number of blocks, instead of the configuration's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    blocks: Option<u16>,
    /// Maximum size of a shard in bytes, unless a single tensor is larger
    #[arg(long, default_value_t = 5_000_000_000, value_name = "BYTES")]
    shard_bytes: usize,
    /// Where to write: a directory that does not exist yet, or is empty
    #[arg(long, value_name = "DIR", value_parser = directory())]
    out: PathBuf,
}

impl Synth {
    pub(crate) fn run(self) -> Outcome {
        let config = shapes(&self.config, self.blocks)?;
        // Named as it was given.
        ModelConfig::parse(&config, &self.config)?;
        if config.get("quantization_config").is_some_and(|entry| !entry.is_null()) {
            note(&format!("{}: quantization_config is left out, as random weights are plain", self.config.display()));
        }
        let bar = bytes_progress(0, "writing".to_owned());
        write_random_checkpoint(&config, &self.out, self.shard_bytes, |done, total| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        })?;
        bar.finish_and_clear();
        let written = Checkpoint::open(Files::Directory(self.out.clone()))?;
        let (bytes, shards) = (HumanBytes(written.tensor_bytes() as u64), written.shards().count());
        writeln!(std::io::stdout(), "{}: {bytes} in {shards} shards", self.out.display())?;
        Ok(ExitCode::SUCCESS)
    }
}
