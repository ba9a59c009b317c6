//! Options that commands share.

use std::{path::PathBuf, str::FromStr};

use clap::Args;
use qins_burn::{Alpha, Backend, EncodeOptions, Scheme, Targets};
use qins_quant::ParseSchemeError;

/// Which model.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// A Hugging Face directory with a Phi-3 (or Llama without biases) in safetensors [default: the embedded model]
    #[arg(long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
}

/// How linears are encoded.
#[derive(Debug, Args)]
pub(crate) struct EncodeArgs {
    /// Which linears to encode: `safe` (v, o, gate, up, down), `all` (q and k too), `full` (embedding and head too), or
    /// a list such as `v_proj,down_proj`
    #[arg(long, default_value = "safe", value_name = "POLICY")]
    pub(crate) targets: Targets,
    /// Fix α of z = 1/(1+α|x|) instead of fitting the curve to each row
    #[arg(long, value_name = "A", value_parser = parse_alpha, allow_negative_numbers = true)]
    pub(crate) alpha: Option<Alpha>,
}

/// What computes.
#[derive(Debug, Args)]
pub(crate) struct DeviceArgs {
    /// Burn backend: flex, ndarray, wgpu or cuda; each must be compiled in by the cargo feature of its name
    #[arg(long, default_value = "flex")]
    pub(crate) backend: Backend,
    /// Threads to compute with [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

/// `--scheme` where plain weights are a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SchemeOrNone {
    /// Plain weights.
    None,
    /// Encoded ones.
    Scheme(Scheme),
}

impl EncodeArgs {
    pub(crate) fn options(&self) -> EncodeOptions {
        EncodeOptions { alpha: self.alpha }
    }

    /// How to encode with `scheme`.
    ///
    /// # Errors
    /// When an α is given and nothing is encoded with it.
    pub(crate) fn options_for(&self, scheme: SchemeOrNone) -> Result<EncodeOptions, String> {
        match (scheme, self.alpha) {
            (SchemeOrNone::None, Some(_)) => Err("expected a --scheme to encode with --alpha, found none".to_owned()),
            _ => Ok(self.options()),
        }
    }
}

impl DeviceArgs {
    /// Sets up the threads; gives the device.
    pub(crate) fn device(&self) -> Result<qins_burn::Device, Box<dyn std::error::Error>> {
        if let Some(threads) = self.threads {
            rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build_global()?;
        }
        Ok(self.backend.device()?)
    }
}

impl FromStr for SchemeOrNone {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "none" => Ok(Self::None),
            name => name
                .parse()
                .map(Self::Scheme)
                .map_err(|e: ParseSchemeError| e.to_string().replace("one of ", "one of none, ")),
        }
    }
}

impl SchemeOrNone {
    pub(crate) fn scheme(self) -> Option<Scheme> {
        match self {
            Self::None => None,
            Self::Scheme(scheme) => Some(scheme),
        }
    }
}

fn parse_alpha(text: &str) -> Result<Alpha, String> {
    let value = text.parse::<f32>().map_err(|e| e.to_string())?;
    Alpha::new(value).map_err(|e| e.to_string())
}
