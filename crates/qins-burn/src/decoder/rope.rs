//! Rotary position embedding: half-split rotation, tables in `f32`.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use qins_quant::kv::Rotations;

use crate::kernel;
#[cfg(feature = "gpu")]
use crate::kernel::Turns;

/// The rotations of consecutive positions.
#[derive(Clone, Debug)]
pub(crate) struct Rotation {
    cos: Tensor<3>,
    sin: Tensor<3>,
    all: Arc<Rotations>,
    #[cfg(feature = "gpu")]
    turns: Option<Turns>,
}

impl Rotation {
    /// cos and sin of positions `start..start + n`, which `all` reaches: each `[1, n, pairs]`.
    pub(crate) fn new(all: Arc<Rotations>, start: usize, n: usize, device: &Device) -> Self {
        let shape = [1, n, all.pairs()];
        let table = |values: &[f32]| Tensor::from_data(TensorData::new(values.to_vec(), shape), device);
        let [cos, sin] = all.tables(start, n).map(table);
        Self {
            cos,
            sin,
            all,
            #[cfg(feature = "gpu")]
            turns: None,
        }
    }

    /// With those of a coded cache on a GPU.
    #[cfg(feature = "gpu")]
    pub(crate) fn with_turns(self, turns: Turns) -> Self {
        Self { turns: Some(turns), ..self }
    }

    #[cfg(feature = "gpu")]
    pub(crate) fn turns(&self) -> Option<&Turns> {
        self.turns.as_ref()
    }

    /// The heads of `x[n, heads·head_dim]`, rotated: `[heads, n, head_dim]`.
    pub(crate) fn apply(&self, x: Tensor<2>, heads: usize) -> Tensor<3> {
        kernel::rotate(x, self.cos.clone(), self.sin.clone(), heads)
    }

    /// Those of all positions so far, on the host.
    pub(crate) fn all(&self) -> &Rotations {
        &self.all
    }
}
