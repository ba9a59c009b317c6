//! A linear map whose weights stay encoded.

use burn::{
    module::{Module, Param, ParamId},
    tensor::{DType, Device, Int, Tensor, TensorData},
};
use qins_quant::{Alpha, Codes, EncodedTensor, FloatDtype, Scheme};

use crate::kernel::Matrix;

/// y = x·Wᵀ with W `[out, in]` encoded; decoded just in time, never resident as floats.
#[derive(Module, Debug)]
pub enum QinsLinear {
    /// [`Scheme::F32`].
    F32(Companded),
    /// [`Scheme::Q8`].
    Q8(Coded),
}

/// Weights in the complement form.
#[derive(Module, Debug)]
pub struct Companded {
    u: Param<Tensor<2>>,
    #[module(skip)]
    alpha: Alpha,
    #[module(skip)]
    source: FloatDtype,
}

/// Weights as 8-bit codes with a scale and a curvature per row.
#[derive(Module, Debug)]
pub struct Coded {
    words: Param<Tensor<2, Int>>,
    scale: Param<Tensor<1>>,
    curvature: Param<Tensor<1>>,
    cols: usize,
}

impl QinsLinear {
    /// Puts an encoded matrix on a device.
    pub fn new(encoded: EncodedTensor, device: &Device) -> Self {
        let ([rows, cols], source) = (encoded.shape(), encoded.source());
        let floats = |values: Vec<f32>| {
            let n = values.len();
            Param::from_tensor(Tensor::from_data(TensorData::new(values, [n]), device))
        };
        match encoded.into_codes() {
            Codes::F32 { u, alpha } => {
                let u = Tensor::from_data(TensorData::new(u, [rows, cols]), device);
                Self::F32(Companded { u: Param::from_tensor(u), alpha, source })
            }
            Codes::Q8 { codes, scale, curvature } => {
                // Four codes a word: WGSL has no bytes, and on a CPU the words read as bytes again.
                let words: Vec<u32> = codes.chunks(cols.max(1)).flat_map(pack_row).collect();
                let data = TensorData::new(words, [rows, cols.div_ceil(4)]);
                let words = Tensor::from_data(data, (device, DType::U32));
                Self::Q8(Coded {
                    words: Param::initialized(ParamId::new(), words),
                    scale: floats(scale),
                    curvature: floats(curvature),
                    cols,
                })
            }
        }
    }

    /// The scheme of the weights.
    pub fn scheme(&self) -> Scheme {
        match self {
            Self::F32(_) => Scheme::F32,
            Self::Q8(_) => Scheme::Q8,
        }
    }

    /// `[out, in]`.
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::F32(w) => w.u.val().dims(),
            Self::Q8(w) => [w.words.val().dims()[0], w.cols],
        }
    }

    pub(crate) fn matrix(&self) -> Matrix {
        match self {
            Self::F32(w) => Matrix::F32 { u: w.u.val(), alpha: w.alpha, source: w.source },
            Self::Q8(w) => {
                Matrix::Q8 { words: w.words.val(), scale: w.scale.val(), curvature: w.curvature.val(), cols: w.cols }
            }
        }
    }
}

/// A row's codes, four a little-endian word, the last word filled up with zeros.
fn pack_row(row: &[u8]) -> impl Iterator<Item = u32> {
    row.chunks(4).map(|codes| {
        let mut word = [0; 4];
        word[..codes.len()].copy_from_slice(codes);
        u32::from_le_bytes(word)
    })
}
