//! `qins`: generate, validate, convert, inspect, verify, export and measure encoded language models.

mod args;
mod commands;
mod embedded;
#[cfg(feature = "burn")]
mod environment;
#[cfg(feature = "burn")]
mod load;
mod model;
#[cfg(feature = "burn")]
mod output;
mod policy;
mod progress;
#[cfg(feature = "burn")]
mod stages;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser, Subcommand};

#[cfg(feature = "burn")]
use crate::commands::{bench, chat, doctor, generate, logits, sweep, validate};
use crate::commands::{completions, convert, export, inspect, man, synth, verify};

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
    #[cfg(feature = "burn")]
    Generate(generate::Generate),
    #[cfg(feature = "burn")]
    Chat(chat::Chat),
    #[cfg(feature = "burn")]
    Logits(logits::WriteLogits),
    #[cfg(feature = "burn")]
    Validate(validate::Validate),
    #[cfg(feature = "burn")]
    Sweep(sweep::Sweep),
    Convert(convert::Convert),
    Inspect(inspect::Inspect),
    Verify(verify::Verify),
    Export(export::Export),
    #[cfg(feature = "burn")]
    Bench(bench::Bench),
    Synth(synth::Synth),
    Completions(completions::Completions),
    Man(man::Manual),
    #[cfg(feature = "burn")]
    Doctor(doctor::Doctor),
}

/// What a command gives: how the process exits, or why it could not run.
type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        #[cfg(feature = "burn")]
        Command::Generate(command) => command.run(),
        #[cfg(feature = "burn")]
        Command::Chat(command) => command.run(),
        #[cfg(feature = "burn")]
        Command::Logits(command) => command.run(),
        #[cfg(feature = "burn")]
        Command::Validate(command) => command.run(),
        #[cfg(feature = "burn")]
        Command::Sweep(command) => command.run(),
        Command::Convert(command) => command.run(),
        Command::Inspect(command) => command.run(),
        Command::Verify(command) => command.run(),
        Command::Export(command) => command.run(),
        #[cfg(feature = "burn")]
        Command::Bench(command) => command.run(),
        Command::Synth(command) => command.run(),
        Command::Completions(command) => command.run(Cli::command()),
        Command::Man(command) => command.run(Cli::command()),
        #[cfg(feature = "burn")]
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
