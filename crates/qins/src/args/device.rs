//! What computes, and how the cache is stored: `--backend`, `--threads`, `--kv`.

use std::error::Error;

use clap::Args;
use qins_burn::Backend;
use qins_quant::{kernel::Simd, kv::KvScheme};

/// What computes.
#[derive(Clone, Debug, Args)]
pub(crate) struct DeviceArgs {
    /// Burn backend: flex, ndarray, wgpu or cuda; each must be compiled in by the cargo feature of its name
    #[arg(long, default_value_t = Backend::default())]
    pub(crate) backend: Backend,
    /// Threads to compute with [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

/// How keys and values rest.
#[derive(Clone, Debug, Args)]
pub(crate) struct KvArgs {
    /// How keys and values of the tokens read rest: f32, f16, bf16, q8 or q4
    #[arg(long, default_value = "f32", value_name = "FORM")]
    pub(crate) kv: KvScheme,
}

impl DeviceArgs {
    /// Sets up the threads; gives the device.
    pub(crate) fn device(&self) -> Result<qins_burn::Device, Box<dyn Error>> {
        // An instruction set that the environment names and this machine has not is refused here.
        Simd::chosen()?;
        if let Some(threads) = self.threads {
            rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build_global()?;
        }
        Ok(self.backend.device()?)
    }
}
