//! The project's commands: `cargo xtask validate`, `cargo xtask test` and their like.
//!
//! This program parses, chooses and spawns; it links nothing of what it starts.

mod bench;
mod cargo;
mod fuzz;
mod qins;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's commands. Everything they need is built on the first call, which takes some minutes.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compare encoded forms of a model with its plain weights (without arguments: of the embedded model)
    Validate(qins::Arguments),
    /// Compare many encoded forms of a model: size against fidelity, and what each part of it is sensitive to
    Sweep(qins::Arguments),
    /// Continue prompts
    Generate(qins::Arguments),
    /// Talk with a model
    Chat(qins::Arguments),
    /// Write what a model predicts after each token of a text
    Logits(qins::Arguments),
    /// Write a checkpoint with encoded linears
    Convert(qins::Arguments),
    /// Show how a checkpoint's tensors rest, and what they cost
    Inspect(qins::Arguments),
    /// Check that a checkpoint is what was written, and how near it is to its source
    Verify(qins::Arguments),
    /// Decode a checkpoint into a plain one, which any other program can run
    Export(qins::Arguments),
    /// Write a checkpoint of random weights, laid out as a model's own is
    Synth(qins::Arguments),
    /// Tell what this machine computes with, and why
    Doctor(qins::Arguments),
    /// Run the tests
    Test(test::Test),
    /// Feed hostile bytes to every reader of files
    Fuzz(fuzz::Fuzz),
    /// Measure
    Bench(bench::Bench),
    /// Check the layering and the house rules
    Tidy,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Validate(arguments) => arguments.run("validate"),
        Command::Sweep(arguments) => arguments.run("sweep"),
        Command::Generate(arguments) => arguments.run("generate"),
        Command::Chat(arguments) => arguments.run("chat"),
        Command::Logits(arguments) => arguments.run("logits"),
        Command::Convert(arguments) => arguments.run("convert"),
        Command::Inspect(arguments) => arguments.run("inspect"),
        Command::Verify(arguments) => arguments.run("verify"),
        Command::Export(arguments) => arguments.run("export"),
        Command::Synth(arguments) => arguments.run("synth"),
        Command::Doctor(arguments) => arguments.run("doctor"),
        Command::Test(test) => test.run(),
        Command::Fuzz(fuzz) => fuzz.run(),
        Command::Bench(bench) => bench.run(),
        Command::Tidy => tidy::run(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}
