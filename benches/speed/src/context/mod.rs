//! Memory and time as a context grows.

mod measure;
mod plot;
mod table;
mod theory;

use std::path::PathBuf;

use clap::Args;

use crate::{
    output::{figures, print, written},
    process::{Machine, root},
};

/// Measure the memory of keys and values, the time to read a context and the time of a token behind it, as it grows.
///
/// Weights are random, in the shapes of a small model, so that it is attention that counts. Beside what is measured stands
/// what theory says: memory in proportion to the tokens; a token's time a constant and a part in proportion to the context;
/// a context's time such a sum over its tokens.
#[derive(Debug, Args)]
pub(crate) struct Context {
    /// The shapes, but for how many positions there are [default: the embedded model's]
    #[arg(long, value_name = "CONFIG")]
    config: Option<PathBuf>,
    /// Tokens of a context
    #[arg(long, value_delimiter = ',', default_value = "1024,2048,4096,8192,16384", value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=65_536))]
    contexts: Vec<u32>,
    /// How keys and values rest
    #[arg(long, value_delimiter = ',', default_value = "f32,f16,q8,q4", value_name = "FORMS")]
    kv: Vec<String>,
    /// Tokens behind a context, over which the time of one is taken
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    tokens: u32,
    #[command(flatten)]
    machine: Machine,
    /// Where the plot is written; the figures beside it, as JSON
    #[arg(long, default_value = "target/bench/context.svg", value_name = "FILE")]
    plot: PathBuf,
}

pub(crate) fn run(options: &Context) -> Result<(), String> {
    let config = options.config.clone().unwrap_or_else(|| root().join("crates/qins/assets/atlas/config.json"));
    let longest = options.contexts.iter().max().map_or(0, |most| most + options.tokens);
    let shapes = measure::with_positions(&config, longest)?;
    let mut runs = Vec::new();
    for kv in &options.kv {
        for context in &options.contexts {
            runs.push(measure::measure(&shapes, kv, *context, options.tokens, &options.machine)?);
        }
    }
    written(&options.plot, plot::plot(&runs))?;
    figures(&options.plot, &runs)?;
    print(&table::table(&runs), &options.plot)
}
