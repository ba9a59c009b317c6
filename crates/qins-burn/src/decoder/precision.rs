//! Precision of intermediate results.

use burn::tensor::Tensor;
use qins_quant::FloatDtype;

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
    /// No rounding but of keys, to 3 bits per number with a scale for each token and head: seven multiples of a third of the largest
    /// magnitude. It changes a model's output much more than any scheme of the cache, and serves to show that this is noticed.
    CoarseKeys,
}

impl Precision {
    /// Times a factor, if it is not 1.
    pub(super) fn scale<const D: usize>(self, x: Tensor<D>, factor: f32) -> Tensor<D> {
        if factor == 1.0 { x } else { self.round(x.mul_scalar(factor)) }
    }

    /// A factor that is a tensor of its own.
    pub(super) fn factor(self, factor: f32) -> f32 {
        match self {
            Self::F32 | Self::CoarseKeys => factor,
            Self::Bf16 => FloatDtype::Bf16.round(factor),
        }
    }

    /// c·tanh(x/c), if there is a c.
    pub(super) fn softcap<const D: usize>(self, x: Tensor<D>, cap: Option<f32>) -> Tensor<D> {
        match cap {
            Some(cap) => self.round(self.round(self.round(x.div_scalar(cap)).tanh()).mul_scalar(cap)),
            None => x,
        }
    }

    pub(super) fn round<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::F32 | Self::CoarseKeys => x,
            Self::Bf16 => kernel::bf16(x),
        }
    }

    /// Keys `[heads, n, head_dim]` as they are cached.
    pub(crate) fn keys(self, keys: Tensor<3>) -> Tensor<3> {
        match self {
            Self::F32 | Self::Bf16 => keys,
            Self::CoarseKeys => {
                let step = keys.clone().abs().max_dim(2).div_scalar(3.0).clamp_min(f32::MIN_POSITIVE);
                (keys / step.clone()).round() * step
            }
        }
    }
}

#[cfg(test)]
#[test]
fn a_factor_that_is_a_tensor_has_its_precision() {
    // Gemma 3 270M: Transformers multiplies embeddings by 25.25 in bf16.
    let factor = 640_f32.sqrt();
    assert_eq!((Precision::F32.factor(factor), Precision::Bf16.factor(factor)), (factor, 25.25));
}
