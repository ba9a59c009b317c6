//! The model commands: the program `qins`, built with the backend that is asked for.

use std::ffi::OsString;

use clap::Args;

use crate::cargo::{self, Outcome};

/// Everything after the command's name is for `qins`, which also answers `--help`.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

impl Arguments {
    pub(crate) fn run(&self, command: &str) -> Outcome {
        let mut run = cargo::qins();
        let features = self.features();
        run.args(&features);
        if features.is_empty() && cargo::is_built("qins") {
            run.arg("--quiet");
        } else {
            eprintln!("building qins, unless it was built before: 5 to 15 minutes on 2 cores");
        }
        cargo::run(run.arg("--").arg(command).args(&self.arguments))
    }

    /// The cargo feature of `--backend NAME`; the default backend is always there.
    fn features(&self) -> Vec<String> {
        let texts: Vec<&str> = self.arguments.iter().filter_map(|a| a.to_str()).collect();
        let after = texts.iter().position(|a| *a == "--backend").and_then(|i| texts.get(i + 1));
        let joined = texts.iter().find_map(|a| a.strip_prefix("--backend="));
        match after.copied().or(joined) {
            Some(backend @ ("ndarray" | "wgpu" | "cuda")) => vec!["--features".to_owned(), backend.to_owned()],
            _ => Vec::new(),
        }
    }
}
