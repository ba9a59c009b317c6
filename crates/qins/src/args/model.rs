//! `--model`.

use std::path::PathBuf;

use clap::Args;

/// Which model.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// A Phi-3 (or Llama without biases) in safetensors: a directory, or `owner/name[@revision]` on the Hugging Face hub, fetched
    /// into its cache once [default: the embedded model]
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<PathBuf>,
}
