//! Speed and memory of each variant, each in its own process, as a table and a plot.
//!
//! Each is measured by `qins bench`, so that peak RSS is its own; llama.cpp by `benches/peers/llama.py`. Only ratios within one run
//! are meaningful: the next run may find the machine busier.

mod context;
mod output;
mod process;
mod speed;

use std::process::ExitCode;

use clap::Parser;

/// Measure speed and memory.
#[derive(Debug, Parser)]
#[command(name = "bench", bin_name = "cargo xtask bench", max_term_width = 110)]
enum Options {
    Speed(speed::Speed),
    Context(context::Context),
}

fn main() -> ExitCode {
    let done = match Options::parse() {
        Options::Speed(options) => speed::run(&options),
        Options::Context(options) => context::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
