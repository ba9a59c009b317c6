//! `qins completions`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Args, Command};
use clap_complete::{Shell, generate};

use crate::Outcome;

/// Print the completions of a shell.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  qins completions bash > ~/.local/share/bash-completion/completions/qins
  qins completions zsh > ~/.zfunc/_qins
  qins completions fish > ~/.config/fish/completions/qins.fish")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, mut program: Command) -> Outcome {
        // Into memory first: a closed pipe is an error that can be reported, and the generator panics at it.
        let mut script = Vec::new();
        generate(self.shell, &mut program, "qins", &mut script);
        io::stdout().write_all(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}
