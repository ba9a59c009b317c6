//! A linear map with plain weights.

use burn::{
    module::{Module, Param},
    nn::Linear,
    tensor::{Device, Tensor, TensorData},
};

use qins_quant::FloatDtype;

use super::Tap;
use crate::kernel::Matrix;

/// y = x·Wᵀ with W `[out, in]`, row-major as Hugging Face stores it: a row is the unit that kernels read, that an
/// embedding looks up and that encoding acts on. (Burn's own `Linear` stores `[in, out]`.)
#[derive(Module, Debug)]
pub struct DenseLinear {
    weight: Param<Tensor<2>>,
    #[module(skip)]
    source: FloatDtype,
    /// Set for the length of a calibration.
    #[module(skip)]
    pub(crate) tap: Option<Tap>,
}

impl DenseLinear {
    /// Takes `weights`, `[out, in]` row-major, which rested as `source`.
    ///
    /// # Panics
    /// When the length does not match the shape.
    pub fn new(weights: Vec<f32>, shape: [usize; 2], source: FloatDtype, device: &Device) -> Self {
        let weight = Tensor::from_data(TensorData::new(weights, shape), device);
        Self { weight: Param::from_tensor(weight), source, tap: None }
    }

    /// The weights, `[out, in]`.
    pub fn weight(&self) -> Tensor<2> {
        self.weight.val()
    }

    /// The type the weights rested in.
    pub fn source(&self) -> FloatDtype {
        self.source
    }

    pub(crate) fn matrix(&self) -> Matrix {
        Matrix::Dense(self.weight())
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
        Ok(Self { weight: Param::from_tensor(linear.weight.val().transpose()), source: FloatDtype::F32, tap: None })
    }
}
