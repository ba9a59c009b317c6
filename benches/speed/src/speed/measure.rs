//! One measurement, in another process.

use std::{fs, path::PathBuf, process::Command};

use serde::{Deserialize, Serialize};

use super::Speed;
use crate::process::{bench, json, output, qins, root};

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// Plain weights of a type.
    Plain(String),
    /// All linears, embedding and head in a scheme.
    Scheme(String),
    /// llama.cpp, on a type of its files.
    Llama(String),
}

/// A variant whose weights are on disk, or need not be.
pub(crate) struct Prepared {
    pub(crate) variant: Variant,
    /// A converted checkpoint, or a GGUF file.
    weights: Option<PathBuf>,
}

/// A measurement, as `qins bench` and `llama.py` print it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    /// `q8`, or `llama.cpp q8_0`.
    #[serde(default)]
    pub(crate) variant: String,
    pub(crate) blocks: usize,
    pub(crate) threads: usize,
    pub(crate) prompt_tokens: usize,
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

impl Variant {
    /// `f32` is the plain type here; the scheme is `companded-f32`.
    pub(crate) fn of(name: &str) -> Self {
        match name {
            "f32" | "bf16" | "f16" => Self::Plain(name.to_owned()),
            scheme => Self::Scheme(scheme.to_owned()),
        }
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::Plain(name) | Self::Scheme(name) => name.clone(),
            Self::Llama(file_type) => format!("llama.cpp {file_type}"),
        }
    }

    /// Whether it is one of our schemes.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Self::Scheme(_))
    }

    /// Writes what it needs beside the plots, unless it is there: random weights once encoded need not be again.
    pub(crate) fn prepared(self, options: &Speed) -> Result<Prepared, String> {
        let (bench, blocks) = (root().join("target/bench"), options.blocks.to_string());
        fs::create_dir_all(&bench).map_err(|e| format!("{}: {e}", bench.display()))?;
        let weights = match &self {
            Self::Plain(_) => None,
            Self::Scheme(scheme) => {
                let (plain, out) = (
                    bench.join(format!("phi-3.5-mini-{blocks}")),
                    bench.join(format!("phi-3.5-mini-{blocks}-{scheme}")),
                );
                if !out.exists() {
                    eprintln!("encoding {scheme}");
                    if !plain.exists() {
                        let mut synth = qins(&options.machine, "synth");
                        synth.args(["--config", "phi-3.5-mini", "--blocks", &blocks, "--out"]);
                        output(synth.arg(&plain))?;
                    }
                    let mut convert = qins(&options.machine, "convert");
                    convert.args(["--scheme", scheme, "--targets", "full", "--no-calibrate"]);
                    output(convert.arg("--model").arg(&plain).arg("--out").arg(&out))?;
                }
                Some(out)
            }
            Self::Llama(file_type) => {
                let out = bench.join(format!("phi-3.5-mini-{blocks}-{file_type}.gguf"));
                if !out.exists() {
                    let mut make = Command::new(&options.python);
                    make.arg(root().join("benches/peers/llama.py"));
                    output(make.args(["make", "--type", file_type, "--blocks", &blocks, "--out"]).arg(&out))?;
                }
                Some(out)
            }
        };
        Ok(Prepared { variant: self, weights })
    }
}

impl Prepared {
    /// Measures it once, in a process that has warmed up.
    pub(crate) fn measured(&self, options: &Speed, prompt: u32) -> Result<Run, String> {
        let (blocks, prompt) = (options.blocks.to_string(), prompt.to_string());
        let mut run = match &self.variant {
            Variant::Plain(_) | Variant::Scheme(_) => {
                let mut run = bench(&options.machine);
                run.args(["--repeats", "1", "--prompt-tokens", &prompt]);
                run
            }
            Variant::Llama(_) => {
                let mut run = Command::new(&options.python);
                run.arg(root().join("benches/peers/llama.py"));
                let threads = options.machine.threads().to_string();
                run.args(["run", "--json", "--repeats", "1", "--prompt", &prompt, "--threads", &threads]);
                run
            }
        };
        match (&self.variant, &self.weights) {
            (Variant::Plain(dtype), _) => {
                run.args(["--model", "synthetic:phi-3.5-mini", "--blocks", &blocks, "--dtype", dtype]);
            }
            (_, weights) => {
                run.arg("--model").args(weights);
            }
        }
        let variant = self.variant.name();
        let run: Run = json(&mut run, &format!("{variant}, prompt of {prompt}"))?;
        Ok(Run { variant, ..run })
    }
}
