//! Models with random weights of any shapes, to measure speed and memory.

use std::collections::HashMap;

use burn::tensor::{Device, Tensor};
use qins_model::{
    LinearKind, LinearSpec, ModelConfig, ModelTensor, Policy, VectorSpec, linears, random_weights, tensors,
};
use qins_quant::{EncodedTensor, FloatDtype, Recipe, Scheme};

use crate::{Error, LoadReport, Loaded, Projection, load::assemble};

/// Rows that are drawn and encoded; a matrix repeats them. Its memory is not shared, so that it does not fit a cache.
const BAND: usize = 64;

/// A model with random weights, encoded by `policy`; linears that it does not select are plain, of type `plain`. `progress` is called
/// with the number of linears made and their total.
///
/// # Errors
/// When weights cannot be encoded by the policy.
pub fn synthetic(
    config: ModelConfig,
    policy: Option<&Policy>,
    plain: FloatDtype,
    device: &Device,
    progress: impl FnMut(usize, usize),
) -> Result<Loaded, Error> {
    let (mut bands, mut report) = (HashMap::new(), LoadReport::default());
    let tied = config.tie_word_embeddings;
    let vectors = tensors(&config).into_iter().map(|tensor| match tensor {
        ModelTensor::Linear(_) => 0,
        ModelTensor::Bias(spec) | ModelTensor::Norm(spec) => spec.width * plain.size(),
    });
    let vector_bytes: usize = vectors.sum();
    let plus_one = config.norm_plus_one;
    let linear = |spec: &LinearSpec| {
        let recipe = policy.and_then(|policy| policy.recipe(spec));
        let [rows, cols] = spec.shape;
        let (projection, bytes) = match recipe {
            None => {
                let bytes = repeat(&plain.narrow(&weights(cols)), rows);
                let n = bytes.len();
                report.plain_bytes += n;
                (Projection::from_bytes(&bytes, spec.shape, plain, device), n)
            }
            Some(recipe) => {
                let encoded = encoded(&mut bands, spec, &recipe, plain)?;
                let n = encoded.file_bytes(false).map_err(|source| encode_error(spec, source))?;
                report.encoded.push(spec.module.clone());
                report.encoded_weights += rows * cols;
                report.encoded_bytes += n;
                (Projection::new(encoded, device), n)
            }
        };
        if spec.kind == LinearKind::Embedding && !tied {
            report.embedding_bytes = bytes;
        }
        Ok(projection)
    };
    // Norms scale by 1, and biases are 0.
    let vector = |spec: &VectorSpec| {
        let is_one = spec.name.ends_with(".weight") && !plus_one;
        Ok(Tensor::full([spec.width], if is_one { 1.0 } else { 0.0 }, device))
    };
    let order = linears(&config);
    let model = assemble(config, &order, linear, vector, progress)?;
    report.plain_bytes += vector_bytes;
    Ok(Loaded { model, report })
}

/// A matrix of encoded rows.
fn encoded(
    bands: &mut HashMap<(Scheme, usize), EncodedTensor>,
    spec: &LinearSpec,
    recipe: &Recipe,
    source: FloatDtype,
) -> Result<EncodedTensor, Error> {
    let [rows, cols] = spec.shape;
    if !bands.contains_key(&(recipe.scheme, cols)) {
        // No importance and no feedback: they belong to one linear, but the rows are shared.
        let recipe = Recipe { importance: None, feedback: None, ..recipe.clone() };
        let band = EncodedTensor::encode_as(&weights(cols), [BAND, cols], source, &recipe);
        bands.insert((recipe.scheme, cols), band.map_err(|e| encode_error(spec, e))?);
    }
    let band = &bands[&(recipe.scheme, cols)];
    let specs = band.format().parts();
    let parts = specs.iter().zip(band.parts()).map(|(spec, words)| {
        // Parts of the whole matrix have no rows.
        if spec.by_rows() { repeat(words, rows) } else { words.clone() }
    });
    EncodedTensor::from_parts(band.format(), rows, parts.collect()).map_err(|e| encode_error(spec, e))
}

fn encode_error(spec: &LinearSpec, source: qins_quant::EncodeError) -> Error {
    Error::Encode { module: spec.module.clone(), source }
}

/// `rows` rows, of which the first [`BAND`] are `band`, and so on.
fn repeat<T: Copy>(band: &[T], rows: usize) -> Vec<T> {
    let n = band.len() / BAND * rows;
    let mut all = Vec::with_capacity(n);
    while all.len() < n {
        all.extend_from_slice(&band[..band.len().min(n - all.len())]);
    }
    all
}

/// A band of rows.
fn weights(cols: usize) -> Vec<f32> {
    random_weights(BAND * cols, cols, cols as u64)
}
