//! Decode and prefill speed of every scheme.

mod measure;
mod plot;
mod summary;
mod table;

use std::path::PathBuf;

use clap::Args;

use self::{
    measure::{Prepared, Variant},
    summary::Summary,
};
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
    /// Tokens of the prompt: prefill is measured on it, and decode after it
    #[arg(long, value_delimiter = ',', default_value = "128", value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    prompts: Vec<u32>,
    /// Times that all are measured, one after the other each time, so that all share what the machine does meanwhile
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Measure llama.cpp too
    #[arg(long)]
    peers: bool,
    /// Types of llama.cpp's files
    #[arg(long, value_delimiter = ',', default_value = "q8_0,q4_k_m", value_name = "TYPES")]
    peer_types: Vec<String>,
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
    let mut variants: Vec<Variant> = options.variants.iter().map(|name| Variant::of(name)).collect();
    if options.peers {
        variants.extend(options.peer_types.iter().cloned().map(Variant::Llama));
    }
    let prepared = variants.into_iter().map(|variant| variant.prepared(options)).collect::<Result<Vec<_>, _>>()?;
    let mut all: Vec<Summary> = Vec::new();
    for &prompt in &options.prompts {
        let of = |Prepared { variant, .. }: &Prepared| Summary {
            variant: variant.name(),
            prompt,
            ours: variant.is_ours(),
            runs: Vec::new(),
        };
        let mut summaries: Vec<Summary> = prepared.iter().map(of).collect();
        for _ in 0..options.rounds {
            for (summary, prepared) in summaries.iter_mut().zip(&prepared) {
                summary.runs.push(prepared.measured(options, prompt)?);
            }
        }
        all.extend(summaries);
    }
    written(&options.plot, plot::plot(&all))?;
    figures(&options.plot, &all)?;
    print(&table::table(&all), &options.plot)
}
