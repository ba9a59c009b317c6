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
        let (package, Arguments { arguments }) = match &self.benchmark {
            Benchmark::Quality(arguments) => ("qins-bench-quality", arguments),
        };
        let mut run = cargo::cargo("run");
        run.args(["--package", package]).arg("--manifest-path").arg(cargo::root().join("Cargo.toml"));
        if cargo::is_built(package) {
            run.arg("--quiet");
        }
        cargo::run(run.arg("--").args(arguments))
    }
}
