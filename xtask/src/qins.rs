//! The commands of the program `qins`, built with the requested backend.

use std::{ffi::OsString, process::Command};

use crate::cargo::{self, Outcome};

/// Runs `qins` with these arguments, the first of which is its command.
pub(crate) fn run(arguments: &[OsString]) -> Outcome {
    cargo::run(&mut command(arguments))
}

/// As [`run`], in place of this process: `qins` then has to itself the signals that end it, and the terminal until it has ended.
pub(crate) fn replace(arguments: &[OsString]) -> Outcome {
    cargo::replace(&mut command(arguments))
}

/// The command that runs `qins` with these arguments.
pub(crate) fn command(arguments: &[OsString]) -> Command {
    let mut run = cargo::qins();
    let features = features(arguments);
    run.args(&features);
    if features.is_empty() && cargo::is_built("qins") {
        run.arg("--quiet");
    } else {
        eprintln!("building qins, unless it was built before: 5 to 15 minutes on 2 cores");
    }
    run.arg("--").args(arguments);
    run
}

/// The cargo features of `--backend NAME`; the default backend is always built in.
fn features(arguments: &[OsString]) -> Vec<String> {
    let texts: Vec<&str> = arguments.iter().filter_map(|a| a.to_str()).collect();
    let after = texts.iter().position(|a| *a == "--backend").and_then(|i| texts.get(i + 1));
    let joined = texts.iter().find_map(|a| a.strip_prefix("--backend="));
    match after.copied().or(joined) {
        Some(backend @ ("ndarray" | "wgpu" | "cuda")) => vec!["--features".to_owned(), backend.to_owned()],
        _ => Vec::new(),
    }
}
