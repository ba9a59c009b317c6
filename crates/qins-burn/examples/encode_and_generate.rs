//! Load, encode the linears by policy, generate: `cargo run --package qins-burn --example encode_and_generate [DIR]`.

use std::{error::Error, ops::ControlFlow, path::PathBuf};

use qins_burn::{Backend, Generator, convert_linear_to_qins, load};
use qins_model::{Targets, Tokenizer};
use qins_quant::{EncodeOptions, Scheme, checkpoint::Checkpoint, checkpoint::Files};

/// Ten lines from a directory to a text.
pub fn continue_text(dir: PathBuf, prompt: &str) -> Result<String, Box<dyn Error>> {
    let checkpoint = Checkpoint::open(Files::Directory(dir))?;
    let mut model = load(&checkpoint, None, &Backend::Flex.device()?, |_, _| {})?.model;
    let report = convert_linear_to_qins(&mut model, &Targets::Safe, Scheme::Q8, &EncodeOptions::default())?;
    println!("{} linears encoded, {} left plain", report.encoded.len(), report.plain.len());

    let tokenizer = Tokenizer::open(checkpoint.files())?;
    let greedy = Generator::greedy(16, &model.config().eos_token_ids);
    let generation = greedy.generate(&model, &tokenizer.encode(prompt)?, |_| ControlFlow::Continue(()))?;
    Ok(tokenizer.decode(&generation.ids, false)?)
}

#[allow(dead_code)] // The tests call the function above.
fn main() -> Result<(), Box<dyn Error>> {
    let atlas = concat!(env!("CARGO_MANIFEST_DIR"), "/../qins/assets/atlas");
    let dir = std::env::args().nth(1).unwrap_or_else(|| atlas.to_owned());
    let prompt = "The capital of France is";
    println!("{prompt}{}", continue_text(dir.into(), prompt)?);
    Ok(())
}
