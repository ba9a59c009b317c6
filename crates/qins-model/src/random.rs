//! A checkpoint of random weights with a model's tensors, to measure conversion, loading and speed without downloading the model.

use std::{collections::BTreeMap, path::Path};

use qins_quant::{
    Error as QuantError, FloatDtype,
    checkpoint::{Directory, TensorSpec},
};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::{Error, ModelConfig, ModelTensor, tensors};

/// Number of weights generated and written at a time.
const BAND: usize = 1 << 22;

/// Writes a checkpoint of random weights for `config`, the content of a `config.json`: in bf16, in shards of at most
/// `shard_bytes`, with fused matrices where the family has them. It appears complete or not at all. `progress` is called with the bytes written
/// and the total. The same configuration gives the same bytes. A `quantization_config` is left out, as these weights are plain.
///
/// # Errors
/// When the configuration is invalid or its model not supported, `out` is not a new or empty directory, or writing fails.
pub fn write_random_checkpoint(
    config: &Value,
    out: &Path,
    shard_bytes: usize,
    mut progress: impl FnMut(usize, usize),
) -> Result<(), Error> {
    let parsed = ModelConfig::parse(config, &out.join("config.json"))?;
    let tensors = stored(&parsed);
    // The weight of a norm that scales by 1.
    let one = if parsed.norm_plus_one { 0.0 } else { 1.0 };
    let total: usize = tensors.iter().map(TensorSpec::bytes).sum();
    let shards = shards(tensors, shard_bytes);
    let directory = Directory::create(out)?;
    let (mut index, mut written, mut seed) = (BTreeMap::new(), 0, 0);
    for (i, tensors) in shards.iter().enumerate() {
        let name = match shards.len() {
            1 => "model.safetensors".to_owned(),
            n => format!("model-{:05}-of-{n:05}.safetensors", i + 1),
        };
        let mut writer = directory.shard(&name, tensors.clone(), Vec::new())?;
        for tensor in tensors {
            index.insert(tensor.name.clone(), name.clone());
            let cols = tensor.shape.last().copied().unwrap_or(1).max(1);
            let rows = tensor.shape.iter().product::<usize>() / cols;
            let band = (BAND / cols).max(1);
            for first in (0..rows).step_by(band) {
                let n = band.min(rows - first);
                let bytes: Vec<u8> = (0..n)
                    .into_par_iter()
                    .flat_map_iter(|r| row(tensor, cols, one, seed + (first + r) as u64))
                    .collect();
                writer.write(&tensor.name, &bytes)?;
                written += bytes.len();
                progress(written, total);
            }
            seed += rows as u64;
        }
        writer.finish()?;
    }
    let write =
        |name: &str, value: &Value| directory.write(name, &serde_json::to_vec_pretty(value).unwrap_or_default());
    let mut config = config.clone();
    config.as_object_mut().map(|config| config.remove("quantization_config"));
    write("config.json", &config)?;
    if shards.len() > 1 {
        let index = json!({ "metadata": { "total_size": total }, "weight_map": index });
        write("model.safetensors.index.json", &index)?;
    }
    directory.commit().map_err(|e: QuantError| e.into())
}

/// The bytes of a row: random for a matrix or a bias, `one` for a norm.
fn row(tensor: &TensorSpec, cols: usize, one: f32, seed: u64) -> Vec<u8> {
    let is_norm = tensor.shape.len() == 1 && tensor.name.ends_with(".weight");
    let values = if is_norm { vec![one; cols] } else { random_weights(cols, cols, seed) };
    FloatDtype::Bf16.narrow(&values)
}

/// Every stored tensor: first the linears, in computation order, then the biases and norms.
fn stored(config: &ModelConfig) -> Vec<TensorSpec> {
    let stored = |name: String, shape: &[usize]| TensorSpec {
        name,
        dtype: FloatDtype::Bf16.safetensors(),
        shape: shape.to_vec(),
    };
    let (mut linears, mut vectors): (Vec<TensorSpec>, Vec<TensorSpec>) = (Vec::new(), Vec::new());
    for tensor in tensors(config) {
        match tensor {
            ModelTensor::Linear(spec) => {
                let place = spec.fused.as_ref().filter(|_| config.fused);
                let (module, rows) = place.map_or((&spec.module, spec.shape[0]), |(module, rows, _)| (module, *rows));
                let next = stored(format!("{module}.weight"), &[rows, spec.shape[1]]);
                // The linears of a fused matrix are adjacent.
                if linears.last() != Some(&next) {
                    linears.push(next);
                }
            }
            ModelTensor::Bias(spec) | ModelTensor::Norm(spec) => vectors.push(stored(spec.name, &[spec.width])),
        }
    }
    linears.extend(vectors);
    linears
}

/// Distributes tensors over shards in order, as many per shard as fit.
fn shards(tensors: Vec<TensorSpec>, most: usize) -> Vec<Vec<TensorSpec>> {
    let (mut shards, mut size): (Vec<Vec<TensorSpec>>, usize) = (Vec::new(), usize::MAX);
    for tensor in tensors {
        let bytes = tensor.bytes();
        match shards.last_mut() {
            Some(shard) if size.saturating_add(bytes) <= most => {
                size += bytes;
                shard.push(tensor);
            }
            _ => {
                size = bytes;
                shards.push(vec![tensor]);
            }
        }
    }
    shards
}

/// `n` random weights for a matrix of `cols` columns: sums of four uniform numbers, approximately Gaussian, scaled to preserve the
/// magnitude of activations. The same arguments give the same numbers.
pub fn random_weights(n: usize, cols: usize, seed: u64) -> Vec<f32> {
    // Mixed, so that consecutive seeds give unrelated sequences.
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let sigma = (3.0 / cols as f32).sqrt();
    (0..n).map(|_| sigma * (uniform() + uniform() + uniform() + uniform())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phi_3_5_mini_has_its_published_tensors_in_two_shards() {
        let config: Value = serde_json::from_str(include_str!("../../qins/assets/phi-3.5-mini.json")).unwrap();
        let published = include_str!("../../../tests/fixtures/phi35/tensor_shapes.json");
        let published: BTreeMap<String, Vec<usize>> = serde_json::from_str(published).unwrap();
        let tensors = stored(&ModelConfig::parse(&config, Path::new("config.json")).unwrap());
        assert_eq!(tensors.len(), 195);
        assert_eq!(tensors.iter().map(TensorSpec::bytes).sum::<usize>(), 7_642_159_104);
        assert_eq!(shards(tensors.clone(), 5_000_000_000).len(), 2);
        assert_eq!(tensors.into_iter().map(|t| (t.name, t.shape)).collect::<BTreeMap<_, _>>(), published);
    }
}
