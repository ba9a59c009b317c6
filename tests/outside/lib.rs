//! The three verbs, each as a function of a few lines.

use std::{error::Error, path::Path};

use qins_burn::Model;
use qins_model::{Conversion, Converted, ModelSource, Targets};
use qins_quant::{EncodedTensor, Scheme};

/// A matrix: encoded, multiplied, saved, loaded.
pub fn matrix(weights: &[f32], shape: [usize; 2], x: &[f32], file: &Path) -> Result<Vec<f32>, Box<dyn Error>> {
    EncodedTensor::encode(weights, shape, Scheme::Q4)?.save(file)?;
    let mut y = vec![0.0; shape[0]];
    EncodedTensor::load(file)?.matmul(x, &mut y)?;
    Ok(y)
}

/// A checkpoint: encoded on disk.
pub fn checkpoint(from: &Path, to: &Path) -> Result<Converted, Box<dyn Error>> {
    let source = ModelSource::open(from)?;
    Ok(Conversion::of(&source.checkpoint)?.scheme(Scheme::Q4).targets(Targets::All).write(to)?)
}

/// A model: opened, encoded, and used to continue a text.
pub fn model(name: &str, prompt: &str) -> Result<String, Box<dyn Error>> {
    let model = Model::open(name)?.encode(Scheme::Q8)?;
    Ok(model.stream(prompt)?.collect::<Result<String, _>>()?)
}
