//! Precision of intermediate results.

use burn::tensor::Tensor;

use crate::kernel;

/// The precision to which the results of a model's operations are rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// No rounding: results are `f32`.
    #[default]
    F32,
    /// Rounded to bf16 after each operation, as in a model with bf16 activations: every product is summed in
    /// `f32`, and its result rounded. It is slower than `f32`, and serves to measure the effect of that type.
    Bf16,
}

impl Precision {
    pub(super) fn round<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::F32 => x,
            Self::Bf16 => kernel::bf16(x),
        }
    }
}
