//! The compute device, and how the KV cache is stored: `--backend`, `--threads`, `--kv`.

use std::error::Error;

use clap::Args;
use qins_burn::Backend;
use qins_quant::kv::KvScheme;

use crate::threads::parse_threads;

/// The compute device.
#[derive(Clone, Debug, Args)]
pub(crate) struct DeviceArgs {
    /// Burn backend: flex, ndarray, wgpu or cuda; each must be compiled in by the cargo feature of its name
    #[arg(long, default_value_t = Backend::default())]
    pub(crate) backend: Backend,
    /// Number of threads, at most four per core or 64 [default: RAYON_NUM_THREADS, or all cores]
    #[arg(long, value_name = "N", value_parser = parse_threads, allow_negative_numbers = true)]
    pub(crate) threads: Option<usize>,
}

/// How the KV cache is stored.
#[derive(Clone, Debug, Args)]
pub(crate) struct KvArgs {
    /// How the KV cache is stored: f32, f16, bf16; or in 8 to 3 bits: q8, k5v5 (5 bits of
    /// keys, 5 of values), k5v4, k4v4 (also named q4), k3v3; auto is q8
    #[arg(long, default_value = "f32", value_name = "SCHEME")]
    pub(crate) kv: KvScheme,
}

impl DeviceArgs {
    /// Sets up the threads and opens the device: once in a process.
    pub(crate) fn device(&self) -> Result<qins_burn::Device, Box<dyn Error>> {
        self.set_up()?;
        Ok(self.backend.device()?)
    }

    /// Sets up the threads: once in a process, and before they are used.
    pub(crate) fn set_up(&self) -> Result<(), Box<dyn Error>> {
        if let Some(threads) = self.threads {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
        }
        Ok(())
    }
}
