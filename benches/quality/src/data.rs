//! The weights to measure on, the same at every call.

use std::{error::Error, f64::consts::TAU, path::Path};

use qins_quant::{
    FloatDtype,
    checkpoint::{Checkpoint, Files, Plain},
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A matrix of weights, row-major.
pub(crate) struct Matrix {
    pub(crate) shape: [usize; 2],
    pub(crate) source: FloatDtype,
    pub(crate) weights: Vec<f32>,
}

/// Matrices that are measured together.
pub(crate) struct DataSet {
    pub(crate) name: String,
    pub(crate) matrices: Vec<Matrix>,
}

/// As many columns as a linear of a small language model has, and enough rows for the second decimal of a dB.
const SHAPE: [usize; 2] = [256, 3072];

/// More weights of a checkpoint than these are not measured.
const MOST: usize = 1 << 24;

/// The formats in common use see blocks of so many weights.
const BLOCK: usize = 256;

/// Weights before training: Gaussian.
pub(crate) fn gaussian() -> DataSet {
    drawn("Gaussian", 1, SHAPE[0], normal)
}

/// Many of them, to be timed: enough for the blocks of the entropy coder to keep all cores busy.
pub(crate) fn many() -> Matrix {
    drawn("", 3, 1024, normal).matrices.remove(0)
}

/// Student's t with 5 degrees of freedom: tails as heavy as those of trained weights.
pub(crate) fn student() -> DataSet {
    drawn("Student-t(5)", 2, SHAPE[0], |random| {
        let square: f64 = (0..5).map(|_| normal(random).powi(2)).sum();
        normal(random) / (square / 5.0).sqrt()
    })
}

/// The linears in the blocks of a checkpoint; of a large one, in some blocks spread over its depth.
pub(crate) fn trained(name: &str, directory: &Path) -> Result<DataSet, Box<dyn Error>> {
    let checkpoint = Checkpoint::open(Files::Directory(directory.to_owned()))?;
    let mut matrices = Vec::new();
    for name in checkpoint.tensors() {
        let Some(block) = block(name) else { continue };
        let plain = checkpoint.plain(name)?;
        if let &[rows, cols] = plain.shape
            && (rows * cols).is_multiple_of(BLOCK)
        {
            matrices.push((block, [rows, cols], plain));
        }
    }
    let total: usize = matrices.iter().map(|(_, [rows, cols], _)| rows * cols).sum();
    if total == 0 {
        return Err(format!("{}: found no plain linears", directory.display()).into());
    }
    let every = total.div_ceil(MOST);
    if every > 1 {
        eprintln!("{name}: one block of {every} is measured");
    }
    matrices.retain(|(block, ..)| block.is_multiple_of(every));
    let widen =
        |(_, shape, plain): &(_, _, Plain)| Matrix { shape: *shape, source: plain.dtype, weights: plain.widen() };
    Ok(DataSet { name: name.to_owned(), matrices: matrices.iter().map(widen).collect() })
}

/// Whether a tensor is in a block of the model.
pub(crate) fn is_in_block(tensor: &str) -> bool {
    block(tensor).is_some()
}

/// The number of the block that a tensor belongs to, as in `model.layers.7.mlp.down_proj.weight`.
fn block(tensor: &str) -> Option<usize> {
    tensor.split_once(".layers.")?.1.split('.').next()?.parse().ok()
}

fn drawn(name: &str, seed: u64, rows: usize, draw: impl Fn(&mut ChaCha8Rng) -> f64) -> DataSet {
    let shape = [rows, SHAPE[1]];
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let weights = (0..shape[0] * shape[1]).map(|_| (0.02 * draw(&mut random)) as f32).collect();
    DataSet { name: name.to_owned(), matrices: vec![Matrix { shape, source: FloatDtype::F32, weights }] }
}

/// Box and Muller's transform.
fn normal(random: &mut ChaCha8Rng) -> f64 {
    let (radius, angle) = (-2.0 * (1.0 - random.random::<f64>()).ln(), TAU * random.random::<f64>());
    radius.sqrt() * angle.cos()
}

#[cfg(test)]
#[test]
fn the_sets_are_what_they_are_called() {
    let moment = |data: &DataSet, power| {
        let weights = &data.matrices[0].weights;
        weights.iter().map(|w| (f64::from(*w) / 0.02).powi(power)).sum::<f64>() / weights.len() as f64
    };
    let (gaussian, student) = (gaussian(), student());
    assert!((moment(&gaussian, 2) - 1.0).abs() < 0.01 && (moment(&gaussian, 4) - 3.0).abs() < 0.05);
    // Variance 5/3, and a kurtosis of 9 instead of 3.
    assert!((moment(&student, 2) - 5.0 / 3.0).abs() < 0.03, "{}", moment(&student, 2));
    assert!(moment(&student, 4) / moment(&student, 2).powi(2) > 6.0);
}
