//! One measurement, by another process.

use std::{path::Path, process::Command};

use serde::{Deserialize, Serialize};

use crate::process::{Machine, bench, json, output, root};

/// What a process measured, as it says in JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    /// `q8`, or `llama.cpp q8_0`.
    #[serde(default)]
    pub(crate) form: String,
    pub(crate) blocks: usize,
    pub(crate) threads: usize,
    pub(crate) prefill_tokens_per_second: f64,
    pub(crate) decode_tokens_per_second: f64,
    pub(crate) decode_gb_per_second: f64,
    /// What the machine read at the time; a peer does not say.
    #[serde(default)]
    pub(crate) read_gb_per_second: Option<f64>,
    pub(crate) load_seconds: f64,
    pub(crate) peak_rss_bytes: Option<u64>,
    pub(crate) weight_bytes: u64,
    #[serde(default)]
    pub(crate) cpu: Option<String>,
    #[serde(default)]
    pub(crate) simd: Option<String>,
    /// The graphics card, if one computes.
    #[serde(default)]
    pub(crate) card: Option<String>,
    /// Bytes of a graphics card's memory in use.
    #[serde(default)]
    pub(crate) device_bytes: Option<u64>,
}

impl Run {
    /// Whether it is another program's.
    pub(crate) fn is_peer(&self) -> bool {
        self.form.starts_with("llama.cpp")
    }
}

/// A form of ours: a type of plain weights, or a scheme for all of them.
pub(crate) fn qins(form: &str, blocks: u16, machine: &Machine) -> Result<Run, String> {
    let mut run = bench(machine);
    run.args(["--model", "synthetic:phi-3.5-mini", "--blocks", &blocks.to_string()]);
    // `f32` is the plain type here: the scheme of that name is no smaller, and slower.
    match form {
        "f32" | "bf16" | "f16" => run.args(["--dtype", form]),
        scheme => run.args(["--scheme", scheme, "--targets", "full"]),
    };
    measured(&mut run, form.to_owned())
}

/// Checks that this Python can run llama.cpp; it says itself what it lacks.
pub(crate) fn expect_llama(python: &Path) -> Result<(), String> {
    output(Command::new(python).arg(root().join("benches/peers/llama.py")).arg("--help")).map(drop)
}

/// llama.cpp on a file of these shapes, which is made where there is none.
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

fn measured(command: &mut Command, form: String) -> Result<Run, String> {
    let run: Run = json(command, &form)?;
    Ok(Run { form, ..run })
}
