//! `qins man`.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Command};
use clap_mangen::Man;
use qins_quant::output;

use crate::{Outcome, args::directory};

/// Print the manual page, or write those of all commands into a directory.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  qins man | man -l -
  qins man --out ~/.local/share/man/man1")]
pub(crate) struct Manual {
    /// Write qins.1, qins-convert.1 and so on into this directory, which is created if needed
    #[arg(long, value_name = "DIR", value_parser = directory())]
    out: Option<PathBuf>,
}

impl Manual {
    pub(crate) fn run(self, mut program: Command) -> Outcome {
        let Some(out) = self.out else {
            io::stdout().write_all(&page(program, "qins")?)?;
            return Ok(ExitCode::SUCCESS);
        };
        program.build();
        let named = |path: &PathBuf, e: io::Error| format!("{}: {e}", path.display());
        fs::create_dir_all(&out).map_err(|e| named(&out, e))?;
        let commands = program.get_subcommands().filter(|command| command.get_name() != "help").cloned();
        for command in commands.collect::<Vec<_>>().into_iter().chain([program.clone()]) {
            let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
            let path = out.join(format!("{name}.1"));
            output::write(&path, &page(command, &name)?)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn page(command: Command, name: &str) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command)
        .title(name.to_uppercase())
        .source(concat!("qins ", env!("CARGO_PKG_VERSION")))
        .render(&mut page)?;
    Ok(page)
}
