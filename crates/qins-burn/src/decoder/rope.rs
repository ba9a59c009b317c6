//! Rotary position embedding: half-split rotation, tables in `f32`.

use burn::tensor::{Device, Tensor, TensorData};
use qins_model::{Rope, RopeRegime};

use crate::kernel;

/// The rotations of consecutive positions.
#[derive(Clone, Debug)]
pub(super) struct Rotation {
    cos: Tensor<3>,
    sin: Tensor<3>,
}

impl Rotation {
    /// cos and sin of positions `start..start + n`: each `[1, n, pairs]`.
    pub(super) fn new(rope: &Rope, regime: RopeRegime, start: usize, n: usize, device: &Device) -> Self {
        let frequencies = rope.frequencies(regime);
        let angles = || (start..start + n).flat_map(|p| frequencies.iter().map(move |f| p as f32 * f));
        let table = |values: Vec<f32>| Tensor::from_data(TensorData::new(values, [1, n, frequencies.len()]), device);
        Self {
            cos: table(angles().map(|a| a.cos() * rope.scaling()).collect()),
            sin: table(angles().map(|a| a.sin() * rope.scaling()).collect()),
        }
    }

    /// The heads of `x[n, heads·head_dim]`, rotated: `[heads, n, head_dim]`.
    pub(super) fn apply(&self, x: Tensor<2>, heads: usize) -> Tensor<3> {
        kernel::rotate(x, self.cos.clone(), self.sin.clone(), heads)
    }
}
