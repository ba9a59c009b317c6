//! A linear map with plain weights.

use burn::{
    module::{Module, Param},
    nn::Linear,
    tensor::{DType, Device, Int, Tensor, TensorData},
};

use qins_quant::FloatDtype;

use super::{Tap, words::words};
use crate::kernel::{self, Matrix};

/// y = x·Wᵀ with W `[out, in]`, row-major as Hugging Face stores it: a row is the unit that kernels read, that an
/// embedding looks up and that encoding acts on. (Burn's own `Linear` stores `[in, out]`.)
///
/// The weights rest in the type they came in, two bytes each where that has 16 bits, and are widened inside the product.
#[derive(Module, Debug)]
pub struct DenseLinear {
    weights: Weights,
    #[module(skip)]
    source: FloatDtype,
    cols: usize,
    /// Set for the length of a calibration.
    #[module(skip)]
    pub(crate) tap: Option<Tap>,
}

#[derive(Module, Debug)]
enum Weights {
    F32(Param<Tensor<2>>),
    /// Two weights of 16 bits a word.
    Half(Param<Tensor<2, Int>>),
}

impl DenseLinear {
    /// Takes `weights`, `[out, in]` row-major, numbers of the type `source`, to which they are rounded.
    ///
    /// # Panics
    /// When the length does not match the shape.
    pub fn new(weights: Vec<f32>, shape: [usize; 2], source: FloatDtype, device: &Device) -> Self {
        if source != FloatDtype::F32 {
            return Self::from_bytes(source.narrow(&weights), shape, source, device);
        }
        let weights = Tensor::from_data(TensorData::new(weights, shape), (device, DType::F32));
        Self { weights: Weights::F32(Param::from_tensor(weights)), source, cols: shape[1], tap: None }
    }

    /// Takes the little-endian bytes of weights, `[out, in]` row-major.
    ///
    /// # Panics
    /// When the length does not match the shape.
    pub fn from_bytes(bytes: Vec<u8>, [rows, cols]: [usize; 2], source: FloatDtype, device: &Device) -> Self {
        if source == FloatDtype::F32 {
            return Self::new(source.widen(&bytes), [rows, cols], source, device);
        }
        assert_eq!(bytes.len(), 2 * rows * cols, "from_bytes: weights do not fit [{rows}, {cols}]");
        Self { weights: Weights::Half(words(bytes, [rows, 2 * cols], device)), source, cols, tap: None }
    }

    /// The weights as `f32`, `[out, in]`.
    pub fn weight(&self) -> Tensor<2> {
        match &self.weights {
            Weights::F32(weights) => weights.val(),
            Weights::Half(words) => {
                let ids: Vec<u32> = (0..words.dims()[0] as u32).collect();
                kernel::rows(self.matrix(), &ids)
            }
        }
    }

    /// `[out, in]`.
    pub fn shape(&self) -> [usize; 2] {
        let rows = match &self.weights {
            Weights::F32(weights) => weights.val().dims()[0],
            Weights::Half(words) => words.val().dims()[0],
        };
        [rows, self.cols]
    }

    /// The type the weights came in.
    pub fn source(&self) -> FloatDtype {
        self.source
    }

    pub(crate) fn matrix(&self) -> Matrix {
        match &self.weights {
            Weights::F32(weights) => Matrix::Dense(weights.val()),
            Weights::Half(words) => {
                Matrix::Half { words: words.val(), bf16: self.source == FloatDtype::Bf16, cols: self.cols }
            }
        }
    }
}

/// A linear that cannot be a projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a linear without a bias, found one with it")]
pub struct Biased;

impl TryFrom<Linear> for DenseLinear {
    type Error = Biased;

    fn try_from(linear: Linear) -> Result<Self, Biased> {
        if linear.bias.is_some() {
            return Err(Biased);
        }
        let transposed = linear.weight.val().transpose().cast(DType::F32);
        // Copied once: a transposed view would be made contiguous at every product.
        let [rows, cols] = transposed.dims();
        let weights = Tensor::empty([rows, cols], (&transposed.device(), DType::F32));
        let weights = weights.slice_assign([0..rows, 0..cols], transposed);
        Ok(Self { weights: Weights::F32(Param::from_tensor(weights)), source: FloatDtype::F32, cols, tap: None })
    }
}
