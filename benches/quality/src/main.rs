//! How much of its weights each scheme keeps, against the bits it costs, beside the formats in common use.
//!
//! No calibration and no model: matrices in, bytes, matrices out. What the loss means for a model is for `validate`.

mod data;
mod measure;
mod reference;
mod svg;
mod table;

use std::{
    error::Error,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use serde_json::json;

/// The workspace.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Measure signal-to-quantisation-noise ratio against bits per weight, for every scheme and the formats in common use.
///
/// On Gaussian and Student-t(5) rows, and on the linears of the embedded model. The ratio is −10·log₁₀ of the
/// size-weighted mean NMSE; bits include all parameters. int8 and
/// FP8 have a scale per row; formats with blocks see each matrix as one row-major sequence.
#[derive(Debug, Parser)]
#[command(name = "quality", bin_name = "cargo xtask bench quality", max_term_width = 110)]
struct Cli {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Where to put quality.svg [default: the workspace's target/bench]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(cli: &Cli) -> Result<(), Box<dyn Error>> {
    let root = Path::new(ROOT);
    let sets = [data::gaussian(), data::student(), data::trained(&root.join("assets/atlas"))?];
    let names = sets.each_ref().map(|set| set.name);
    let rows = measure::measure(&sets)?;

    let out = cli.out.clone().unwrap_or_else(|| root.join("target/bench"));
    fs::create_dir_all(&out).map_err(|e| format!("{}: {e}", out.display()))?;
    let path = out.join("quality.svg");
    fs::write(&path, svg::plot(&names, &rows)).map_err(|e| format!("{}: {e}", path.display()))?;
    eprintln!("plot: {}", path.canonicalize().unwrap_or(path).display());

    let text = if cli.json {
        serde_json::to_string_pretty(&json!({ "data": names, "forms": rows }))? + "\n"
    } else {
        table::table(&names, &rows)
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
