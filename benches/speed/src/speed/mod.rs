//! Decode and prefill speed of every scheme.

mod measure;
mod plot;
mod table;

use std::path::PathBuf;

use clap::Args;

use crate::{
    output::{figures, print, written},
    process::{Machine, expect_llama},
};

/// Measure decode tok/s, prefill tok/s and peak RSS of every scheme at the shapes of Phi-3.5-mini, with random weights.
#[derive(Debug, Args)]
pub(crate) struct Speed {
    /// Number of blocks of the model, at most 32; each needs 0.4 GB as plain f32
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=32))]
    blocks: u16,
    #[command(flatten)]
    machine: Machine,
    /// Variants to measure: `f32`, `bf16` and `f16` are plain weights; others are schemes of every linear, embedding and head
    #[arg(
        long,
        alias = "forms",
        value_delimiter = ',',
        default_value = "f32,bf16,q8g,q8,q6,q5,q4,q3",
        value_name = "VARIANTS"
    )]
    variants: Vec<String>,
    /// Measure llama.cpp too
    #[arg(long)]
    peers: bool,
    /// For llama.cpp: a Python with the packages of benches/peers/requirements.txt (see benches/peers/llama.py)
    #[arg(long, default_value = "python3", value_name = "PROGRAM")]
    python: PathBuf,
    /// Where to write the plot; the measurements are written beside it, as JSON
    #[arg(long, default_value = "target/bench/speed.svg", value_name = "FILE")]
    plot: PathBuf,
}

pub(crate) fn run(options: &Speed) -> Result<(), String> {
    if options.peers {
        // Before minutes are spent on the others.
        expect_llama(&options.python)?;
    }
    let mut runs = Vec::new();
    for variant in &options.variants {
        runs.push(measure::qins(variant, options.blocks, &options.machine)?);
    }
    if options.peers {
        for file_type in ["q8_0", "q4_k_m"] {
            runs.push(measure::llama(&options.python, file_type, options.blocks, runs[0].threads)?);
        }
    }
    written(&options.plot, plot::plot(&runs))?;
    figures(&options.plot, &runs)?;
    print(&table::table(&runs), &options.plot)
}
