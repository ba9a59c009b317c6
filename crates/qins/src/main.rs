//! `qins`: generate, validate, convert, inspect, verify, export and measure encoded language models.

#[cfg(feature = "burn")]
mod answer;
mod args;
mod commands;
mod embedded;
#[cfg(feature = "burn")]
mod environment;
mod interrupt;
#[cfg(feature = "burn")]
mod load;
mod model;
mod notes;
#[cfg(feature = "burn")]
mod output;
mod policy;
mod progress;
mod shapes;
#[cfg(feature = "burn")]
mod stages;
#[cfg(feature = "burn")]
mod stop_strings;
mod threads;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser, Subcommand};

#[cfg(feature = "burn")]
use crate::commands::{bench, chat, doctor, generate, importance, logits, sweep, validate};
use crate::commands::{completions, convert, export, inspect, man, synth, verify};

/// Large buffers come and go with every product: their pages are kept.
#[cfg(feature = "burn")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Run, convert, verify and evaluate language models with weight-only quantisation: weights stay encoded in memory and are
/// decoded just in time for each matrix product.
///
/// Every command works on a Hugging Face directory (`--model DIR`), or by default on the small reference model that is part of
/// this program. Exit codes: 0 success, 1 a validation or verification failed, 2 an error, 130 or 143 interrupted by SIGINT (Ctrl-C)
/// or SIGTERM.
#[derive(Debug, Parser)]
#[command(name = "qins", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The help text of each command is at its definition; a doc comment here would replace it.
#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(feature = "burn")]
    Generate(generate::Generate),
    #[cfg(feature = "burn")]
    Chat(chat::Chat),
    #[cfg(feature = "burn")]
    Logits(logits::WriteLogits),
    #[cfg(feature = "burn")]
    Importance(importance::WriteImportance),
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

/// The result of a command: the exit code, or the error.
type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    if let Err(e) = interrupt::watch() {
        print_error(&format!("error: signals: {e}"));
        return ExitCode::from(2);
    }
    let command = Cli::parse().command;
    if let Err(error) = threads::check_environment() {
        print_error(&format!("error: {error}"));
        return ExitCode::from(2);
    }
    let outcome = match command {
        #[cfg(feature = "burn")]
        Command::Generate(command) => command.run(),
        #[cfg(feature = "burn")]
        Command::Chat(command) => command.run(),
        #[cfg(feature = "burn")]
        Command::Logits(command) => command.run(),
        #[cfg(feature = "burn")]
        Command::Importance(command) => command.run(),
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
        #[cfg(feature = "burn")]
        if matches!(error.downcast_ref(), Some(qins_eval::Error::Interrupted)) {
            print_error("interrupted before there was a result");
            return interrupt::exit_code();
        }
        match error.downcast_ref::<io::Error>() {
            // A reader that closed the pipe, such as `head`, needs no message.
            Some(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
            // Errors of files name the file; this one is of standard output.
            Some(e) => print_error(&format!("error: standard output: {e}")),
            None => print_error(&format!("error: {error}")),
        }
        ExitCode::from(2)
    })
}

/// Prints to stderr; if that is closed, only the exit code is left.
fn print_error(message: &str) {
    let _ = writeln!(io::stderr(), "{message}");
}
