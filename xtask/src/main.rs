//! The project's commands: `cargo xtask validate`, `cargo xtask test` and their like.
//!
//! This program parses, chooses and spawns; it links none of the programs it starts.

mod bench;
mod cache;
mod cargo;
mod fuzz;
mod python;
mod qins;
mod test;
mod tidy;
mod words;

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};

/// The project's commands. The first call builds what they need, which takes some minutes.
///
/// Every command of the program `qins` is one too: validate, sweep, generate, chat, logits, importance, convert, inspect, verify, export, synth and
/// doctor; `cargo xtask validate --help` explains its options.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the tests
    Test(test::Test),
    /// Fuzz every reader of files
    Fuzz(fuzz::Fuzz),
    /// Run a benchmark
    Bench(bench::Bench),
    /// Check the layering and the house rules
    Tidy,
    /// Any command of the program `qins`
    #[command(external_subcommand)]
    Qins(Vec<OsString>),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Test(test) => test.run(),
        Command::Fuzz(fuzz) => fuzz.run(),
        Command::Bench(bench) => bench.run(),
        Command::Tidy => tidy::run(),
        Command::Qins(arguments) => qins::replace(&arguments),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}
