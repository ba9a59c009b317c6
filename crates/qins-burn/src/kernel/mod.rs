//! The product of activations with weights that stay as they rest.
//!
//! Operations of our own, on every backend: CPUs decode a tile of rows into cache and multiply it there, GPUs into registers or
//! shared memory.

// The generated code is public, and names NdArray, which Burn has deprecated.
#[allow(deprecated, unreachable_pub)]
mod backend;
#[cfg(any(feature = "flex", feature = "ndarray"))]
#[allow(deprecated)]
mod cpu;
#[cfg(feature = "gpu")]
mod gpu;

use burn::{
    backend::Dispatch,
    nn::RmsNorm,
    tensor::{DType, Device, Int, Tensor, TensorData},
};
use qins_quant::{Alpha, FloatDtype, Layout};

use backend::{QinsBackend, Weight};
#[cfg(feature = "gpu")]
pub(crate) use gpu::cache::Heads as GpuHeads;

/// A `[rows, cols]` matrix on a device, in the form it rests in.
#[derive(Clone, Debug)]
pub enum Matrix {
    /// Plain weights `[rows, cols]`.
    Dense(Tensor<2>),
    /// Plain weights of a 16-bit type.
    Half {
        /// Two weights a word, little-endian, `[rows, ⌈cols/2⌉]`, as unsigned 32-bit integers.
        words: Tensor<2, Int>,
        /// Whether they are bf16; else they are f16.
        bf16: bool,
        /// Weights per row.
        cols: usize,
    },
    /// The complement form `[rows, cols]`.
    F32 {
        /// The companded values.
        u: Tensor<2>,
        /// The α they share.
        alpha: Alpha,
        /// The type the weights had before; decoded values are rounded to it.
        source: FloatDtype,
    },
    /// 8-bit codes.
    Q8 {
        /// Four codes a word, little-endian, `[rows, ⌈cols/4⌉]`, as unsigned 32-bit integers.
        words: Tensor<2, Int>,
        /// `[rows]`.
        scale: Tensor<1>,
        /// `[rows]`.
        curvature: Tensor<1>,
        /// Weights per row.
        cols: usize,
    },
    /// Codes of 3 to 8 bits in groups.
    Grouped(Groups),
}

/// The parts of a grouped matrix; byte parts as unsigned 32-bit words, little-endian.
#[derive(Clone, Debug)]
pub struct Groups {
    /// The form of a row.
    pub layout: Layout,
    /// Codes, `[rows, layout.packed(cols) / 4]`.
    pub packed: Tensor<2, Int>,
    /// Scales of the super-blocks, `[rows, layout.scales(cols)]`.
    pub scale: Tensor<2>,
    /// Scales of the groups, `[rows, ⌈layout.group_scales(cols) / 4⌉]`.
    pub group_scale: Tensor<2, Int>,
    /// Curves of the groups, `[rows, ⌈layout.selectors(cols) / 4⌉]`.
    pub selector: Tensor<2, Int>,
    /// The four curvatures.
    pub curvature: Tensor<1>,
    /// Weights per row.
    pub cols: usize,
}

/// `x[m, cols] · wᵀ`, of shape `[m, rows]`.
///
/// # Panics
/// When x has not as many columns as the matrix, or a part of the matrix is not of its shape or type.
pub fn linear(x: Tensor<2>, w: Matrix) -> Tensor<2> {
    let ([m, width], [rows, cols]) = (x.dims(), w.shape());
    assert_eq!(width, cols, "linear: x has as many columns as the matrix");
    w.check();
    if m * rows * cols == 0 {
        // There is nothing to launch.
        return Tensor::zeros([m, rows], (&x.device(), x.dtype()));
    }
    Tensor::from_dispatch(Dispatch::qins_linear(x.into_dispatch(), w.into()))
}

/// Rows of the weights, decoded: `[ids.len(), cols]`.
///
/// # Panics
/// When there is no such row, or a part of the matrix is not of its shape or type.
pub fn rows(w: Matrix, ids: &[u32]) -> Tensor<2> {
    let [rows, cols] = w.shape();
    assert!(ids.iter().all(|&id| (id as usize) < rows), "rows: the matrix has {rows}");
    w.check();
    if ids.len() * cols == 0 {
        return Tensor::zeros([ids.len(), cols], &w.device());
    }
    let data = TensorData::new(ids.to_vec(), [ids.len()]);
    let ids = Tensor::<1, Int>::from_data(data, (&w.device(), DType::U32));
    Tensor::from_dispatch(Dispatch::qins_rows(ids.into_dispatch(), w.into(), cols))
}

/// `x[n, heads·dim]` as `[heads, n, dim]`, the first 2·pairs numbers of each head rotated, halves against each other, by cos and
/// sin `[1, n, pairs]`.
pub(crate) fn rotate(x: Tensor<2>, cos: Tensor<3>, sin: Tensor<3>, heads: usize) -> Tensor<3> {
    let [x, cos, sin] = [x.into_dispatch(), cos.into_dispatch(), sin.into_dispatch()];
    Tensor::from_dispatch(Dispatch::qins_rotate(x, cos, sin, heads))
}

/// Each row of `x[n, width]` normalised.
pub(crate) fn norm(norm: &RmsNorm, x: Tensor<2>) -> Tensor<2> {
    let (x, gamma) = (x.into_dispatch(), norm.gamma.val().into_dispatch());
    Tensor::from_dispatch(Dispatch::qins_norm(x, gamma, norm.epsilon as f32))
}

/// silu(gate)·up.
pub(crate) fn gated(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::qins_gated(gate.into_dispatch(), up.into_dispatch()))
}

/// Rounded to bf16, on any backend.
pub(crate) fn bf16<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::qins_bf16(x.into_dispatch()))
}

impl Matrix {
    /// `[rows, cols]`.
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Dense(w) | Self::F32 { u: w, .. } => w.dims(),
            Self::Half { words, cols, .. } | Self::Q8 { words, cols, .. } => [words.dims()[0], *cols],
            Self::Grouped(groups) => [groups.packed.dims()[0], groups.cols],
        }
    }

    /// Panics unless the parts belong together, which is what kernels rely on: they read no lengths.
    fn check(&self) {
        let [rows, cols] = self.shape();
        let words = |part: &Tensor<2, Int>, bytes: usize| {
            assert_eq!((part.dims(), part.dtype()), ([rows, bytes.div_ceil(4)], DType::U32), "a matrix's words");
        };
        let floats = |shape: &[usize], expected: &[usize], dtype| {
            assert_eq!((shape, dtype), (expected, DType::F32), "a matrix's numbers");
        };
        match self {
            Self::Dense(w) | Self::F32 { u: w, .. } => floats(&w.dims(), &[rows, cols], w.dtype()),
            Self::Half { words: part, .. } => words(part, 2 * cols),
            Self::Q8 { words: part, scale, curvature, .. } => {
                words(part, cols);
                floats(&scale.dims(), &[rows], scale.dtype());
                floats(&curvature.dims(), &[rows], curvature.dtype());
            }
            Self::Grouped(Groups { layout, packed, scale, group_scale, selector, curvature, .. }) => {
                words(packed, layout.packed(cols));
                words(group_scale, layout.group_scales(cols));
                words(selector, layout.selectors(cols));
                floats(&scale.dims(), &[rows, layout.scales(cols)], scale.dtype());
                floats(&curvature.dims(), &[4], curvature.dtype());
            }
        }
    }

    /// Where it is.
    pub fn device(&self) -> Device {
        match self {
            Self::Dense(w) | Self::F32 { u: w, .. } => w.device(),
            Self::Half { words, .. } | Self::Q8 { words, .. } => words.device(),
            Self::Grouped(groups) => groups.packed.device(),
        }
    }
}

impl From<Matrix> for Weight<Dispatch> {
    fn from(w: Matrix) -> Self {
        match w {
            Matrix::Dense(w) => Self::Dense(w.into_dispatch()),
            Matrix::Half { words, bf16, .. } => Self::Half { words: words.into_dispatch(), bf16 },
            Matrix::F32 { u, alpha, source } => Self::F32 { u: u.into_dispatch(), alpha, source },
            Matrix::Q8 { words, scale, curvature, .. } => Self::Q8 {
                words: words.into_dispatch(),
                scale: scale.into_dispatch(),
                curvature: curvature.into_dispatch(),
            },
            Matrix::Grouped(groups) => Self::Grouped {
                layout: groups.layout,
                packed: groups.packed.into_dispatch(),
                scale: groups.scale.into_dispatch(),
                group_scale: groups.group_scale.into_dispatch(),
                selector: groups.selector.into_dispatch(),
                curvature: groups.curvature.into_dispatch(),
            },
        }
    }
}

/// Whether a device computes with the kernels on slices.
#[cfg(feature = "gpu")]
pub(crate) fn on_cpu(device: &Device) -> bool {
    match device.as_dispatch() {
        #[cfg(feature = "flex")]
        burn::backend::DispatchDevice::Flex(_) => true,
        #[cfg(feature = "ndarray")]
        burn::backend::DispatchDevice::NdArray(_) => true,
        #[allow(unreachable_patterns)]
        _ => false,
    }
}
