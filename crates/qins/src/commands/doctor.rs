//! `qins doctor`.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use indicatif::HumanBytes;
use qins_burn::{Adapter, Backend, adapters};
use qins_quant::kernel::Simd;
use serde::Serialize;

use crate::{
    Outcome,
    environment::{huge_pages, memory},
};

/// Show the backends, instruction sets and GPUs of this machine, and which are used and why.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  qins doctor
  qins doctor --backend wgpu --json
  CUBECL_WGPU_DEFAULT_DEVICE='DiscreteGpu(1)' qins doctor

The backend `wgpu` uses a GPU through Vulkan, Metal or DX12: the first discrete one, or else the first integrated one, and so on, \
or the one that CUBECL_WGPU_DEFAULT_DEVICE names: `DiscreteGpu(N)`, `IntegratedGpu(N)`, \
`VirtualGpu(N)`, `Other(N)` or `Cpu`, counted from 0.")]
pub(crate) struct Doctor {
    /// Fail if this backend cannot be used
    #[arg(long, value_name = "NAME")]
    backend: Option<Backend>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Findings {
    qins: &'static str,
    platform: String,
    cpu: Option<String>,
    threads: usize,
    /// Of the machine, where the system reports it.
    memory_bytes: Option<u64>,
    available_memory_bytes: Option<u64>,
    /// The system's setting of transparent huge pages, which weights are kept in unless it is `never`.
    huge_pages: Option<String>,
    simd: Instructions,
    backends: Vec<BackendFindings>,
    /// The adapters that `wgpu` finds, where it is in this build.
    adapters: Vec<Adapter>,
}

#[derive(Debug, Serialize)]
struct Instructions {
    used: &'static str,
    available: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct BackendFindings {
    name: &'static str,
    in_build: bool,
    usable: bool,
    /// What it computes on, or why it cannot.
    why: String,
}

impl Doctor {
    pub(crate) fn run(self) -> Outcome {
        let adapters = adapters();
        let available = Simd::ALL.into_iter().filter(|simd| simd.is_available()).map(Simd::name).collect();
        let findings = Findings {
            qins: env!("CARGO_PKG_VERSION"),
            platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            cpu: crate::environment::cpu(),
            threads: rayon::current_num_threads(),
            memory_bytes: memory("MemTotal"),
            available_memory_bytes: memory("MemAvailable"),
            huge_pages: huge_pages(),
            simd: Instructions { used: Simd::chosen()?.name(), available },
            backends: Backend::ALL.into_iter().map(|backend| examine(backend, &adapters)).collect(),
            adapters,
        };
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&findings)?)?;
        } else {
            findings.print(&mut out)?;
        }
        match self.backend {
            Some(backend) => Ok(backend.device().map(|_| ExitCode::SUCCESS)?),
            None => Ok(ExitCode::SUCCESS),
        }
    }
}

fn examine(backend: Backend, adapters: &[Adapter]) -> BackendFindings {
    let device = backend.device();
    let why = match (&device, backend) {
        (Err(error), _) => error.to_string(),
        (Ok(_), Backend::Flex | Backend::NdArray) => "this processor".to_owned(),
        (Ok(_), Backend::Wgpu) => match adapters.iter().find(|adapter| adapter.used) {
            Some(adapter) => format!("{}, {}", adapter.name, chosen(adapter, adapters)),
            None => "an unnamed GPU".to_owned(),
        },
        (Ok(_), Backend::Cuda) => backend.card().unwrap_or_else(|| "an unnamed GPU".to_owned()),
    };
    let why = if backend == Backend::default() { format!("{why}; the default") } else { why };
    BackendFindings { name: backend.name(), in_build: backend.is_built(), usable: device.is_ok(), why }
}

/// Why an adapter is the one that is used.
fn chosen(adapter: &Adapter, adapters: &[Adapter]) -> &'static str {
    if std::env::var_os("CUBECL_WGPU_DEFAULT_DEVICE").is_some() {
        "set by CUBECL_WGPU_DEFAULT_DEVICE"
    } else if adapter.kind == "cpu" {
        "a software driver (such as llvmpipe), as there is no GPU: for tests, not for speed"
    } else if adapters.iter().filter(|adapter| adapter.kind != "cpu").count() == 1 {
        "the only GPU"
    } else {
        "the first GPU, discrete before integrated"
    }
}

impl Findings {
    fn print(&self, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
        writeln!(out, "qins      {}, {}", self.qins, self.platform)?;
        let cpu = self.cpu.as_deref().unwrap_or("an unnamed processor");
        writeln!(out, "cpu       {cpu}, {} threads", self.threads)?;
        let others = self.simd.available.iter().filter(|name| **name != self.simd.used).copied().collect::<Vec<_>>();
        writeln!(out, "kernels   {} (also available: {})", self.simd.used, others.join(", "))?;
        if let (Some(all), Some(free)) = (self.memory_bytes, self.available_memory_bytes) {
            writeln!(out, "memory    {}, {} available", HumanBytes(all), HumanBytes(free))?;
        }
        if let Some(setting) = &self.huge_pages {
            let kept = if setting == "never" { "are not" } else { "are" };
            writeln!(out, "pages     weights {kept} kept in huge pages: the system's setting is `{setting}`")?;
        }
        writeln!(out)?;
        for BackendFindings { name, usable, why, .. } in &self.backends {
            writeln!(out, "{} {name:7} {why}", if *usable { "+" } else { "-" })?;
        }
        for adapter in &self.adapters {
            let able = |able: bool| if able { "yes" } else { "no" };
            writeln!(out, "\nadapter   {}{}", adapter.name, if adapter.used { " (used)" } else { "" })?;
            writeln!(out, "          {} through {}, {}", adapter.kind, adapter.api, adapter.driver)?;
            writeln!(
                out,
                "          f16 {}, subgroups {}, {} of shared memory per workgroup, tensors up to {}",
                able(adapter.f16),
                able(adapter.subgroups),
                HumanBytes(adapter.shared_memory_bytes),
                HumanBytes(adapter.largest_tensor_bytes)
            )?;
        }
        if !self.adapters.is_empty() {
            writeln!(
                out,
                "\nwgpu does not report an adapter's memory; a command that runs out of it ends with an error."
            )?;
        }
        Ok(())
    }
}
