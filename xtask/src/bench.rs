//! `cargo xtask bench …`.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::{Args, Subcommand};

use crate::{
    cache::Cache,
    cargo::{self, Outcome},
    qins,
    words::Words,
};

/// Run a benchmark.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    /// Speed and memory of one model, or of random weights in its shapes: `qins bench`
    Model(Arguments),
    /// SQNR against bits per weight, of every scheme and of formats in common use
    Quality(Arguments),
    /// KL divergence on the embedded model against bits per weight, of every scheme and of formats in common use, as a plot
    Fidelity,
    /// Tokens/s and memory of every scheme at Phi-3.5-mini's shapes, as a table and a plot
    Speed(Arguments),
    /// As `speed`, with llama.cpp too: `--python` names a Python with the packages of benches/peers/requirements.txt
    Peers(Arguments),
    /// Memory and time by context length, for every KV cache scheme, as a table and a plot
    Context(Arguments),
    /// KL divergence of every KV cache scheme by context length, beside llama.cpp's, as a table and a plot
    Cache(Cache),
    /// KL divergence of models against bits per weight, of qins' schemes as `convert` writes them beside llama.cpp's formats
    Words(Words),
    /// Bytes of weights per second of every kernel, on every instruction set of this machine
    Kernels(Arguments),
}

/// Everything after the benchmark's name is passed to its program, `--help` included.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
struct Arguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

impl Bench {
    pub(crate) fn run(&self) -> Outcome {
        match &self.benchmark {
            Benchmark::Model(rest) => qins::run(&rest.after(&["bench"])),
            Benchmark::Quality(rest) => program("qins-bench-quality", &rest.arguments),
            Benchmark::Fidelity => fidelity(),
            Benchmark::Speed(rest) => program("qins-bench-speed", &rest.after(&["speed"])),
            Benchmark::Peers(rest) => program("qins-bench-speed", &rest.after(&["speed", "--peers"])),
            Benchmark::Context(rest) => program("qins-bench-speed", &rest.after(&["context"])),
            Benchmark::Cache(cache) => cache.run(),
            Benchmark::Words(words) => words.run(),
            Benchmark::Kernels(rest) => criterion("qins-bench-kernels", &rest.arguments),
        }
    }
}

impl Arguments {
    fn after(&self, first: &[&str]) -> Vec<OsString> {
        first.iter().map(OsString::from).chain(self.arguments.iter().cloned()).collect()
    }
}

/// Rounds the embedded model to other formats, compares all of them with its plain weights, and plots the report.
fn fidelity() -> Outcome {
    let out = cargo::root().join("target/bench");
    let rounded = quality("--rounded", &out.join("rounded"))?;
    let report = out.join("fidelity.json");
    let mut validate: Vec<OsString> =
        ["validate", "--scheme", "q8g,q8,q6,q5,q4,q3", "--targets", "all", "--report"].map(OsString::from).into();
    validate.push(report.clone().into());
    validate.extend(rounded.lines().flat_map(|made| [OsString::from("--candidate"), made.into()]));
    let compared = qins::run(&validate)?;
    let plot = out.join("fidelity.svg");
    fs::write(&plot, quality("--fidelity", &report)?).map_err(|e| format!("{}: {e}", plot.display()))?;
    println!("plot       {}", plot.display());
    Ok(compared)
}

/// A script that measures llama.cpp.
pub(crate) fn peer(script: &str) -> PathBuf {
    cargo::root().join("benches/peers").join(script)
}

/// What `bench quality` prints with this option.
pub(crate) fn quality(option: &str, path: &Path) -> Result<String, String> {
    let mut run = cargo::cargo("run");
    run.args(["--quiet", "--package", "qins-bench-quality"])
        .arg("--manifest-path")
        .arg(cargo::root().join("Cargo.toml"));
    let output = run.arg("--").arg(option).arg(path).stderr(Stdio::inherit()).output();
    let output = output.map_err(|e| format!("cargo run: {e}"))?;
    if !output.status.success() {
        return Err(format!("bench quality {option}: {}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|e| format!("bench quality {option}: {e}"))
}

/// Runs a benchmark that is a binary.
fn program(package: &str, arguments: &[OsString]) -> Outcome {
    run(cargo::cargo("run"), package, arguments)
}

/// Runs a Criterion benchmark, in the workspace's one profile.
fn criterion(package: &str, arguments: &[OsString]) -> Outcome {
    let mut bench = cargo::cargo("bench");
    bench.args(["--profile", "dev"]);
    run(bench, package, arguments)
}

fn run(mut command: Command, package: &str, arguments: &[OsString]) -> Outcome {
    command.args(["--package", package]).arg("--manifest-path").arg(cargo::root().join("Cargo.toml"));
    if cargo::is_built(package) {
        command.arg("--quiet");
    }
    cargo::run(command.arg("--").args(arguments))
}
