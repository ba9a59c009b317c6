//! The product of activations with weights that stay as they rest.
//!
//! On CPU backends an operation of our own decodes a tile of rows into cache and multiplies it there; elsewhere the
//! weights are decoded by plain Burn operations before an ordinary matrix product.

// The generated code names NdArray, which Burn has deprecated.
#[allow(deprecated)]
mod cpu;
mod portable;

use burn::{
    backend::{Dispatch, DispatchDevice},
    tensor::{Device, Int, Tensor},
};
use qins_quant::{Alpha, FloatDtype, Layout};

use cpu::{QinsBackend, Weight};

/// A `[rows, cols]` matrix on a device, in the form it rests in.
#[derive(Clone, Debug)]
pub enum Matrix {
    /// Plain weights `[rows, cols]`.
    Dense(Tensor<2>),
    /// Plain weights of a 16-bit type, on CPU backends.
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
pub fn linear(x: Tensor<2>, w: Matrix) -> Tensor<2> {
    if !on_cpu(&x.device()) {
        return x.matmul(decode(w).transpose());
    }
    let weight = match w {
        Matrix::Dense(w) => Weight::Dense(w.into_dispatch()),
        Matrix::Half { words, bf16, .. } => Weight::Half { words: words.into_dispatch(), bf16 },
        Matrix::F32 { u, alpha, source } => Weight::F32 { u: u.into_dispatch(), alpha, source },
        Matrix::Q8 { words, scale, curvature, .. } => Weight::Q8 {
            words: words.into_dispatch(),
            scale: scale.into_dispatch(),
            curvature: curvature.into_dispatch(),
        },
        Matrix::Grouped(groups) => Weight::Grouped {
            layout: groups.layout,
            packed: groups.packed.into_dispatch(),
            scale: groups.scale.into_dispatch(),
            group_scale: groups.group_scale.into_dispatch(),
            selector: groups.selector.into_dispatch(),
            curvature: groups.curvature.into_dispatch(),
        },
    };
    Tensor::from_dispatch(Dispatch::qins_linear(x.into_dispatch(), weight))
}

/// The weights themselves, `[rows, cols]`, by plain Burn operations on any backend; but for 16-bit types, which not every
/// backend has.
pub fn decode(w: Matrix) -> Tensor<2> {
    match w {
        Matrix::Dense(w) => w,
        Matrix::Half { words, bf16, cols } => {
            Tensor::from_dispatch(Dispatch::qins_widen(words.into_dispatch(), bf16, cols))
        }
        Matrix::F32 { u, alpha, source } => portable::decode_u(u, alpha, source),
        Matrix::Q8 { words, scale, curvature, cols } => portable::decode_q8(words, scale, curvature, cols),
        Matrix::Grouped(groups) => portable::decode_grouped(groups),
    }
}

/// Some rows of a matrix, in the form it rests in.
pub fn select_rows(w: Matrix, rows: Tensor<1, Int>) -> Matrix {
    match w {
        Matrix::Dense(w) => Matrix::Dense(w.select(0, rows)),
        Matrix::Half { words, bf16, cols } => Matrix::Half { words: words.select(0, rows), bf16, cols },
        Matrix::F32 { u, alpha, source } => Matrix::F32 { u: u.select(0, rows), alpha, source },
        Matrix::Q8 { words, scale, curvature, cols } => Matrix::Q8 {
            words: words.select(0, rows.clone()),
            scale: scale.select(0, rows.clone()),
            curvature: curvature.select(0, rows),
            cols,
        },
        Matrix::Grouped(groups) => Matrix::Grouped(Groups {
            packed: groups.packed.select(0, rows.clone()),
            scale: groups.scale.select(0, rows.clone()),
            group_scale: groups.group_scale.select(0, rows.clone()),
            selector: groups.selector.select(0, rows),
            ..groups
        }),
    }
}

/// Whether a device computes with the kernels on slices.
pub(crate) fn on_cpu(device: &Device) -> bool {
    match device.as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => true,
        #[cfg(feature = "ndarray")]
        DispatchDevice::NdArray(_) => true,
        #[allow(unreachable_patterns)]
        _ => false,
    }
}
