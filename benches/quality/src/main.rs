//! SQNR against bits per weight of every scheme and of formats in common use.
//!
//! No calibration and no model: matrices are encoded and decoded. `validate` measures the effect on a model.

mod bound;
mod cache;
mod criteria;
mod data;
mod fidelity;
mod measure;
mod reference;
mod report;
mod rounded;
mod sparsity;
mod speed;
mod svg;
mod table;
mod words;

use std::{
    env,
    error::Error,
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;
use qins_quant::output;
use serde_json::json;

/// Measure signal-to-quantisation-noise ratio against bits per weight, for every scheme and the formats in common use.
///
/// On Gaussian and Student-t(5) rows, and on the linears of the embedded model. The ratio is −10·log₁₀ of the
/// size-weighted mean NMSE; bits include all parameters, and `coded` is the size in an entropy-coded file.
/// int8 and FP8 have a scale per row; block formats treat each matrix as one row-major sequence. Then follow the criteria of
/// the schemes, and encoding and decoding speeds on this machine.
#[derive(Debug, Parser)]
#[command(name = "quality", bin_name = "cargo xtask bench quality", max_term_width = 110)]
struct Cli {
    /// Also measure the linears of this checkpoint; of a large one, those of some of its blocks. May be repeated
    #[arg(long = "model", value_name = "DIR")]
    models: Vec<PathBuf>,
    /// Also measure SQNR at equal bits after pruning
    #[arg(long)]
    sparsity: bool,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// The directory for quality.svg [default: the workspace's target/bench]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Only write the embedded model with its linears rounded to each format in common use, and print DIR@BITS of each
    #[arg(long, value_name = "DIR", exclusive = true)]
    rounded: Option<PathBuf>,
    /// Only plot a report of `qins validate`: mean KL divergence against bits per weight, as SVG on standard output
    #[arg(long, value_name = "REPORT", exclusive = true)]
    fidelity: Option<PathBuf>,
    /// Only gather the reports of encoded caches in a directory: cache.json, cache.md and cache.svg there, and the table
    #[arg(long, value_name = "DIR", exclusive = true)]
    cache: Option<PathBuf>,
    /// Only gather the reports of encoded weights in a directory: words.json, words.md and words.svg there, and the table
    #[arg(long, value_name = "DIR", exclusive = true)]
    words: Option<PathBuf>,
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
    // As cargo says when it runs this program: builds in one target directory may be shared by several clones.
    let package = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    let root = package.join("../..");
    let atlas = root.join("crates/qins/assets/atlas");
    if let Some(out) = &cli.rounded {
        rounded::write(&atlas, out)?.iter().try_for_each(|made| writeln!(io::stdout(), "{made}"))?;
        return Ok(());
    }
    if let Some(report) = &cli.fidelity {
        io::stdout().write_all(fidelity::plot(report)?.as_bytes())?;
        return Ok(());
    }
    if let Some(dir) = &cli.cache {
        io::stdout().write_all(cache::write(dir)?.as_bytes())?;
        return Ok(());
    }
    if let Some(dir) = &cli.words {
        io::stdout().write_all(words::write(dir)?.as_bytes())?;
        return Ok(());
    }
    let mut sets = vec![data::gaussian(), data::student(), data::trained("atlas", &atlas)?];
    for model in &cli.models {
        let name = model.file_name().unwrap_or(model.as_os_str()).to_string_lossy();
        sets.push(data::trained(&name, model)?);
    }
    let names: Vec<&str> = sets.iter().map(|set| &*set.name).collect();
    let schemes = measure::measure(&sets)?;
    let criteria = criteria::criteria(&sets, &schemes);
    let speeds = speed::measure()?;
    let sparsity = cli.sparsity.then(|| sparsity::measure(&sets)).transpose()?;

    let out = cli.out.clone().unwrap_or_else(|| root.join("target/bench"));
    fs::create_dir_all(&out).map_err(|e| format!("{}: {e}", out.display()))?;
    let path = out.join("quality.svg");
    output::write(&path, svg::plot(&svg::DECIBELS, &names, &schemes).as_bytes())?;
    eprintln!("plot: {}", path.canonicalize().unwrap_or(path).display());

    let text = if cli.json {
        let all =
            json!({ "data": names, "schemes": schemes, "criteria": criteria, "speeds": speeds, "sparsity": sparsity });
        serde_json::to_string_pretty(&all)? + "\n"
    } else {
        let tables = [table::schemes(&names, &schemes), criteria::table(&criteria), table::speeds(&speeds)];
        tables
            .into_iter()
            .chain(sparsity.map(|sparsity| table::sparsity(&names, &sparsity)))
            .collect::<Vec<_>>()
            .join("\n")
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
