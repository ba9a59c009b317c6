//! `--model`.

use std::path::PathBuf;

use clap::Args;

/// Which model.
#[derive(Debug, Default, Args)]
pub(crate) struct ModelArgs {
    /// A Phi-3 (or Llama without biases) in safetensors: a directory, or `owner/name[@revision]` on the Hugging Face hub, fetched
    /// into its cache once [default: the embedded model]
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<PathBuf>,
    /// Fetch every file of a model on the hub again, whatever the cache has
    #[cfg(feature = "hub")]
    #[arg(long)]
    force_download: bool,
}

impl ModelArgs {
    /// The model of this name.
    pub(crate) fn named(model: Option<PathBuf>) -> Self {
        Self { model, ..Self::default() }
    }

    /// Whether the cache is passed over.
    pub(crate) fn force_download(&self) -> bool {
        #[cfg(feature = "hub")]
        return self.force_download;
        #[cfg(not(feature = "hub"))]
        false
    }
}
