//! `--report` and `--json`.

use std::{error::Error, io::Write, path::PathBuf, process::ExitCode};

use clap::Args;
use qins_eval::report::{Report, Terminal, page, summary};
use qins_quant::output::Output;

use crate::{
    Outcome, interrupt,
    output::{Outputs, is_stdout},
};

/// The report's files.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Where to write the report as JSON; a page (.html) and a summary (.md) are written beside it, unless it is a device or a
    /// pipe; `-` prints the JSON and writes no file. When the run is interrupted, with what was measured until then
    #[arg(long, default_value = "report.json", value_name = "FILE")]
    report: PathBuf,
    /// Print the report as JSON instead of text
    #[arg(long)]
    json: bool,
}

/// The report's files, opened: the JSON, and the page and summary.
#[derive(Default)]
pub(crate) struct ReportFiles {
    json: Option<Output>,
    beside: Option<[Output; 2]>,
}

impl ReportArgs {
    /// Opens the report's files, before the work. Beside a device or a pipe there is neither page nor summary.
    pub(crate) fn open(&self, outputs: &mut Outputs) -> Result<ReportFiles, Box<dyn Error>> {
        if is_stdout(&self.report) {
            return Ok(ReportFiles::default());
        }
        if [self.beside("html"), self.beside("md")].contains(&self.report) {
            let name = self.report.display();
            return Err(format!("{name}: expected a name for the JSON file, found that of the page or summary").into());
        }
        let json = outputs.open_report("--report", &self.report)?;
        let beside = match json.file() {
            Some(_) => {
                let mut open = |extension| outputs.open_report("--report", &self.beside(extension));
                Some([open("html")?, open("md")?])
            }
            None => None,
        };
        Ok(ReportFiles { json: Some(json), beside })
    }

    fn beside(&self, extension: &str) -> PathBuf {
        self.report.with_extension(extension)
    }

    /// Prints the report and writes its files. Each of these is tried, whether or not the others fail.
    pub(crate) fn write(&self, report: &Report, files: ReportFiles) -> Outcome {
        let json = serde_json::to_string_pretty(report)?;
        // Printed first: a file that cannot be written then costs nothing that was measured.
        let printed = self.print(report, &json);
        let (html, md) = files.beside.map(|[html, md]| ((html, page(report)), (md, summary(report)))).unzip();
        let files = [files.json.map(|output| (output, json)), html, md];
        let (mut names, written): (Vec<String>, Vec<_>) = files
            .into_iter()
            .flatten()
            .map(|(output, content)| (output.path().display().to_string(), output.write(content.as_bytes())))
            .unzip();
        names.sort();
        written.into_iter().collect::<Result<(), _>>()?;
        printed?;
        if !self.prints_json() {
            writeln!(std::io::stdout(), "report     {}", names.join(", "))?;
        }
        Ok(match report {
            Report { partial: true, .. } => interrupt::exit_code(),
            Report { passed: true, .. } => ExitCode::SUCCESS,
            Report { passed: false, .. } => ExitCode::from(1),
        })
    }

    fn prints_json(&self) -> bool {
        self.json || is_stdout(&self.report)
    }

    fn print(&self, report: &Report, json: &str) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.prints_json() { writeln!(out, "{json}") } else { write!(out, "{}", Terminal(report)) }?;
        out.flush()
    }
}
