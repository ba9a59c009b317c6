//! Memory and time by context length.

mod measure;
mod plot;
mod table;
mod theory;

use std::path::PathBuf;

use clap::Args;

use crate::{
    output::{figures, print, written},
    process::{Machine, expect_llama, root},
};

/// Measure KV cache size, prefill time and decode time per token, by context length.
///
/// Weights are random, in the shapes of a small model, so that attention dominates. The model beside the measurements: cache
/// size is proportional to the tokens; decode time is a constant plus a part proportional to the context; prefill time is the
/// sum of such times over its tokens.
#[derive(Debug, Args)]
pub(crate) struct Context {
    /// The config.json of the shapes; the context length is extended [default: the embedded model's]
    #[arg(long, value_name = "CONFIG")]
    config: Option<PathBuf>,
    /// Context lengths in tokens
    #[arg(long, value_delimiter = ',', default_value = "512,2048,8192,32768", value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=65_536))]
    contexts: Vec<u32>,
    /// Schemes of the KV cache
    #[arg(long, value_delimiter = ',', default_value = "f32,bf16,q8,k5v5,k5v4,k4v4,k3v3", value_name = "SCHEMES")]
    kv: Vec<String>,
    /// Tokens decoded after the context, over which the time per token is averaged
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    tokens: u32,
    /// Measure llama.cpp too, on random weights in the same shapes
    #[arg(long)]
    peers: bool,
    /// For llama.cpp: a Python with the packages of benches/peers/requirements.txt (see benches/peers/llama.py)
    #[arg(long, default_value = "python3", value_name = "PROGRAM")]
    python: PathBuf,
    /// Types of llama.cpp's KV cache
    #[arg(long, value_delimiter = ',', default_value = "f16,q8_0", value_name = "TYPES")]
    peer_kv: Vec<String>,
    #[command(flatten)]
    machine: Machine,
    /// Where to write the plot; the measurements are written beside it, as JSON
    #[arg(long, default_value = "target/bench/context.svg", value_name = "FILE")]
    plot: PathBuf,
}

pub(crate) fn run(options: &Context) -> Result<(), String> {
    let config = options.config.clone().unwrap_or_else(|| root().join("crates/qins/assets/atlas/config.json"));
    let longest = options.contexts.iter().max().map_or(0, |most| most + options.tokens);
    let shapes = measure::with_positions(&config, longest)?;
    if options.peers {
        // Before minutes are spent on qins.
        expect_llama(&options.python)?;
    }
    let mut runs = Vec::new();
    for kv in &options.kv {
        for context in &options.contexts {
            runs.push(measure::measure(&shapes, kv, *context, options.tokens, &options.machine)?);
        }
    }
    if let Some(threads) = runs.first().map(|run| run.threads).filter(|_| options.peers) {
        let gguf = measure::gguf(&options.python, &shapes, &options.machine)?;
        for kv in &options.peer_kv {
            for context in &options.contexts {
                runs.push(measure::llama(&options.python, &gguf, kv, *context, options.tokens, threads)?);
            }
        }
    }
    written(&options.plot, plot::plot(&runs))?;
    figures(&options.plot, &runs)?;
    print(&table::table(&runs), &options.plot)
}
