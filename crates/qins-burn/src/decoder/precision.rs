//! What results are rounded to.

use burn::tensor::Tensor;

use crate::kernel;

/// What the results of a model's operations are rounded to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Not at all: they stay in `f32`.
    #[default]
    F32,
    /// To bf16, after each operation, as a model does whose activations rest in that type: every product is summed in
    /// `f32`, and its result rounded. It costs time rather than saving it; it is here to measure what that type changes.
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
