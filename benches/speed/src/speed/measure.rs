//! One measurement, in another process.

use std::{path::Path, process::Command};

use serde::{Deserialize, Serialize};

use crate::process::{Machine, bench, json, output, root};

/// A measurement, as `qins bench` and `llama.py` print it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    /// `q8`, or `llama.cpp q8_0`.
    #[serde(default)]
    pub(crate) variant: String,
    pub(crate) blocks: usize,
    pub(crate) threads: usize,
    pub(crate) prefill_tokens_per_second: f64,
    pub(crate) decode_tokens_per_second: f64,
    pub(crate) decode_gb_per_second: f64,
    /// Memory bandwidth measured in the same run; not reported for peers.
    #[serde(default)]
    pub(crate) read_gb_per_second: Option<f64>,
    pub(crate) load_seconds: f64,
    pub(crate) peak_rss_bytes: Option<u64>,
    pub(crate) weight_bytes: u64,
    #[serde(default)]
    pub(crate) cpu: Option<String>,
    #[serde(default)]
    pub(crate) simd: Option<String>,
    /// The GPU, if one computes.
    #[serde(default)]
    pub(crate) card: Option<String>,
    /// GPU memory in use, in bytes.
    #[serde(default)]
    pub(crate) device_bytes: Option<u64>,
}

impl Run {
    /// Whether another program was measured.
    pub(crate) fn is_peer(&self) -> bool {
        self.variant.starts_with("llama.cpp")
    }
}

/// Measures qins with plain weights of a type, or with all weights in a scheme.
pub(crate) fn qins(variant: &str, blocks: u16, machine: &Machine) -> Result<Run, String> {
    let mut run = bench(machine);
    run.args(["--model", "synthetic:phi-3.5-mini", "--blocks", &blocks.to_string()]);
    // `f32` is the plain type here; the scheme is `companded-f32`.
    match variant {
        "f32" | "bf16" | "f16" => run.args(["--dtype", variant]),
        scheme => run.args(["--scheme", scheme, "--targets", "full"]),
    };
    measured(&mut run, variant.to_owned())
}

/// Measures llama.cpp on a GGUF file of these shapes, which is created if needed.
pub(crate) fn llama(python: &Path, file_type: &str, blocks: u16, threads: usize) -> Result<Run, String> {
    let (program, blocks) = (root().join("benches/peers/llama.py"), blocks.to_string());
    let file = root().join(format!("target/bench/phi-3.5-mini-{blocks}-{file_type}.gguf"));
    if !file.exists() {
        let mut make = Command::new(python);
        make.arg(&program).args(["make", "--type", file_type, "--blocks", &blocks, "--out"]).arg(&file);
        std::fs::create_dir_all(root().join("target/bench")).map_err(|e| format!("target/bench: {e}"))?;
        output(&mut make)?;
    }
    let mut run = Command::new(python);
    run.arg(&program).args(["run", "--threads", &threads.to_string(), "--json", "--model"]).arg(&file);
    measured(&mut run, format!("llama.cpp {file_type}"))
}

fn measured(command: &mut Command, variant: String) -> Result<Run, String> {
    let run: Run = json(command, &variant)?;
    Ok(Run { variant, ..run })
}
