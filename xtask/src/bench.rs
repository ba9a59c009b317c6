//! `cargo xtask bench …`: what is measured rather than tested.

use std::ffi::OsString;

use clap::{Args, Subcommand};

use crate::cargo::{self, Outcome};

/// Run a benchmark.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
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
        let first: &[&str] = match &self.benchmark {
            Benchmark::Speed(_) => &["speed"],
            Benchmark::Peers(_) => &["speed", "--peers"],
            Benchmark::Context(_) => &["context"],
            Benchmark::Quality(_) | Benchmark::Kernels(_) => &[],
        };
        let (package, Arguments { arguments }) = match &self.benchmark {
            Benchmark::Quality(arguments) => ("qins-bench-quality", arguments),
            Benchmark::Speed(arguments) | Benchmark::Peers(arguments) | Benchmark::Context(arguments) => {
                ("qins-bench-speed", arguments)
            }
            Benchmark::Kernels(arguments) => ("qins-bench-kernels", arguments),
        };
        // Criterion's benches are run by `cargo bench`; in the one profile there is.
        let mut run = if package == "qins-bench-kernels" {
            let mut bench = cargo::cargo("bench");
            bench.args(["--profile", "dev"]);
            bench
        } else {
            cargo::cargo("run")
        };
        run.args(["--package", package]).arg("--manifest-path").arg(cargo::root().join("Cargo.toml"));
        if cargo::is_built(package) {
            run.arg("--quiet");
        }
        cargo::run(run.arg("--").args(first).args(arguments))
    }
}
