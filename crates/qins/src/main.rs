//! `qins`: generate, validate, convert, inspect, verify, export and measure encoded language models.

mod args;
mod baseline;
mod bench;
mod chat;
mod compare;
mod convert;
mod doctor;
mod embedded;
mod environment;
mod evaluate;
mod export;
mod form;
mod generate;
mod hub;
mod inspect;
mod logits;
mod model;
mod output;
mod policy;
mod preset;
mod prompts;
mod questions;
mod search;
mod sensitivity;
mod sweep;
mod synth;
mod validate;
mod verify;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

/// Language models whose weights rest encoded.
///
/// Every command works on a Hugging Face directory (`--model DIR`), or without one on the small reference model that is
/// part of this program. Exit codes: 0 done or passed, 1 a validation or verification failed, 2 could not run.
#[derive(Debug, Parser)]
#[command(name = "qins", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Each is explained where it is defined: a word here would hide what is said there.
#[derive(Debug, Subcommand)]
enum Command {
    Generate(generate::Generate),
    Chat(chat::Chat),
    Logits(logits::WriteLogits),
    Validate(validate::Validate),
    Sweep(sweep::Sweep),
    Convert(convert::Convert),
    Inspect(inspect::Inspect),
    Verify(verify::Verify),
    Export(export::Export),
    Bench(bench::Bench),
    Synth(synth::Synth),
    Doctor(doctor::Doctor),
}

/// What a command gives: how the process exits, or why it could not run.
type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Generate(command) => command.run(),
        Command::Chat(command) => command.run(),
        Command::Logits(command) => command.run(),
        Command::Validate(command) => command.run(),
        Command::Sweep(command) => command.run(),
        Command::Convert(command) => command.run(),
        Command::Inspect(command) => command.run(),
        Command::Verify(command) => command.run(),
        Command::Export(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Synth(command) => command.run(),
        Command::Doctor(command) => command.run(),
    };
    outcome.unwrap_or_else(|error| {
        match error.downcast_ref::<io::Error>() {
            // A reader that has had enough, such as `head`, needs no message.
            Some(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
            // An error of a file names the file, so this is none.
            Some(e) => complain(&format!("error: standard output: {e}")),
            None => complain(&format!("error: {error}")),
        }
        ExitCode::from(2)
    })
}

/// Tells on stderr; where even that is closed, the exit code has to do.
fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "{message}");
}
