//! `--model`.

use std::path::PathBuf;

use clap::Args;

/// The model.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// A model in safetensors, of a family such as Llama, Mistral, Qwen, Gemma or Phi: a directory, or `owner/name[@revision]` on
    /// the Hugging Face hub, downloaded into its cache once [default: the embedded model]
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<PathBuf>,
    /// Download every file of a model on the hub again, even if it is in the cache
    #[cfg(feature = "hub")]
    #[arg(long)]
    force_download: bool,
}

impl ModelArgs {
    /// The model of this name.
    pub(crate) fn named(model: Option<PathBuf>) -> Self {
        Self {
            model,
            #[cfg(feature = "hub")]
            force_download: false,
        }
    }

    /// Whether files are downloaded even if they are in the cache.
    pub(crate) fn force_download(&self) -> bool {
        #[cfg(feature = "hub")]
        return self.force_download;
        #[cfg(not(feature = "hub"))]
        false
    }
}
