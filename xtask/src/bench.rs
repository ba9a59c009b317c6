//! `cargo xtask bench …`: what is measured rather than tested.

use std::{ffi::OsString, process::Command};

use clap::{Args, Subcommand};

use crate::{
    cargo::{self, Outcome},
    qins,
};

/// Run a benchmark.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    /// One model, or the shapes of one: `qins bench`
    Model(Arguments),
    /// What each scheme keeps of its weights, against the bits it costs, beside the formats in common use
    Quality(Arguments),
    /// Tokens a second and memory of every scheme at the shapes of Phi-3.5-mini, as a table and a plot
    Speed(Arguments),
    /// As `speed`, with llama.cpp beside it: `--python` names a Python with what benches/peers/requirements.txt lists
    Peers(Arguments),
    /// Memory and time as a context grows, for every form of the cache of keys and values, as a table and a plot
    Context(Arguments),
    /// Bytes of weights a second of every kernel, on every instruction set of this machine
    Kernels(Arguments),
}

/// Everything after the benchmark's name is for its program, which also answers `--help`.
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
            Benchmark::Speed(rest) => program("qins-bench-speed", &rest.after(&["speed"])),
            Benchmark::Peers(rest) => program("qins-bench-speed", &rest.after(&["speed", "--peers"])),
            Benchmark::Context(rest) => program("qins-bench-speed", &rest.after(&["context"])),
            Benchmark::Kernels(rest) => criterion("qins-bench-kernels", &rest.arguments),
        }
    }
}

impl Arguments {
    fn after(&self, first: &[&str]) -> Vec<OsString> {
        first.iter().map(OsString::from).chain(self.arguments.iter().cloned()).collect()
    }
}

/// Runs a benchmark that is a program.
fn program(package: &str, arguments: &[OsString]) -> Outcome {
    run(cargo::cargo("run"), package, arguments)
}

/// Runs a benchmark of Criterion's, in the one profile there is.
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
