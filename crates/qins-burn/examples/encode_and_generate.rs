//! Opens a model, encodes it, and continues a text: `cargo run --package qins-burn --example encode_and_generate [MODEL]`.

use std::io::{Write, stdout};

use qins_burn::{Error, Model, Scheme};

/// From a model to generated text.
pub fn continue_text(model: &str, prompt: &str, mut write: impl FnMut(&str)) -> Result<(), Error> {
    let model = Model::open(model)?.encode(Scheme::Q8)?;
    for piece in model.stream(prompt)? {
        write(&piece?);
    }
    Ok(())
}

#[allow(dead_code)] // The tests call the function above.
fn main() -> Result<(), Error> {
    let atlas = concat!(env!("CARGO_MANIFEST_DIR"), "/../qins/assets/atlas");
    let model = std::env::args().nth(1).unwrap_or_else(|| atlas.to_owned());
    let prompt = "The capital of France is";
    print!("{prompt}");
    continue_text(&model, prompt, |piece| {
        print!("{piece}");
        let _ = stdout().flush();
    })?;
    println!();
    Ok(())
}
