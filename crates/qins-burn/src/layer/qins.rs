//! A linear map whose weights stay encoded.

use burn::{
    module::{Module, Param},
    tensor::{DType, Device, Int, Tensor, TensorData},
};
use qins_quant::{Alpha, FloatDtype, Layout, Scheme};

use super::words::words;
use crate::kernel::{Groups, Matrix};

/// y = x·Wᵀ with W `[out, in]` encoded; decoded just in time, never resident as floats.
#[derive(Module, Debug)]
pub enum QinsLinear {
    /// [`Scheme::F32`].
    F32(Companded),
    /// [`Scheme::Q8`].
    Q8(Coded),
    /// The grouped schemes.
    Grouped(Grouped),
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

/// Weights as codes of 3 to 8 bits in groups of 32.
#[derive(Module, Debug)]
pub struct Grouped {
    packed: Param<Tensor<2, Int>>,
    scale: Param<Tensor<2>>,
    group_scale: Param<Tensor<2, Int>>,
    selector: Param<Tensor<2, Int>>,
    curvature: Param<Tensor<1>>,
    #[module(skip)]
    layout: Layout,
    cols: usize,
}

impl QinsLinear {
    /// The scheme of the weights.
    pub fn scheme(&self) -> Scheme {
        match self {
            Self::F32(_) => Scheme::F32,
            Self::Q8(_) => Scheme::Q8,
            Self::Grouped(w) => w.layout.scheme(),
        }
    }

    /// `[out, in]`.
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::F32(w) => w.u.val().dims(),
            Self::Q8(w) => [w.words.val().dims()[0], w.cols],
            Self::Grouped(w) => [w.packed.val().dims()[0], w.cols],
        }
    }

    pub(crate) fn matrix(&self) -> Matrix {
        match self {
            Self::F32(w) => Matrix::F32 { u: w.u.val(), alpha: w.alpha, source: w.source },
            Self::Q8(w) => {
                Matrix::Q8 { words: w.words.val(), scale: w.scale.val(), curvature: w.curvature.val(), cols: w.cols }
            }
            Self::Grouped(w) => Matrix::Grouped(Groups {
                layout: w.layout,
                packed: w.packed.val(),
                scale: w.scale.val(),
                group_scale: w.group_scale.val(),
                selector: w.selector.val(),
                curvature: w.curvature.val(),
                cols: w.cols,
            }),
        }
    }
}

impl Companded {
    pub(super) fn new(u: Vec<f32>, shape: [usize; 2], alpha: Alpha, source: FloatDtype, device: &Device) -> Self {
        let u = Tensor::from_data(TensorData::new(u, shape), (device, DType::F32));
        Self { u: Param::from_tensor(u), alpha, source }
    }
}

impl Coded {
    pub(super) fn new(
        codes: Vec<u8>,
        [rows, cols]: [usize; 2],
        scale: Vec<f32>,
        curvature: Vec<f32>,
        device: &Device,
    ) -> Self {
        let words = words(codes, [rows, cols], device);
        Self { words, scale: floats(scale, device), curvature: floats(curvature, device), cols }
    }
}

impl Grouped {
    pub(super) fn new(groups: qins_quant::Grouped, [rows, cols]: [usize; 2], device: &Device) -> Self {
        let layout = groups.layout;
        let scale = TensorData::new(groups.scale, [rows, layout.scales(cols)]);
        Self {
            packed: words(groups.packed, [rows, layout.packed(cols)], device),
            scale: Param::from_tensor(Tensor::from_data(scale, (device, DType::F32))),
            group_scale: words(groups.group_scale, [rows, layout.group_scales(cols)], device),
            selector: words(groups.selector, [rows, layout.selectors(cols)], device),
            curvature: floats(groups.curvature, device),
            layout,
            cols,
        }
    }
}

fn floats(values: Vec<f32>, device: &Device) -> Param<Tensor<1>> {
    let n = values.len();
    Param::from_tensor(Tensor::from_data(TensorData::new(values, [n]), (device, DType::F32)))
}
