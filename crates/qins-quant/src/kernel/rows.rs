//! A borrowed matrix in any form, decoded row by row.

use qins_codec::{Alpha, Curvature};

use super::{Simd, simd::per_isa};
use crate::{
    FloatDtype,
    dtype::widen_half,
    forms::{Form, GroupedRows, MatrixFormat, floats, stride, stride_of_halves, widen_row},
};

/// The rows of a matrix as a kernel reads them. The number of columns is not stored: it is the length of the output passed
/// to [`decode_row`](Self::decode_row).
#[derive(Clone, Copy, Debug)]
pub enum Rows<'a> {
    /// Plain weights, `cols` per row.
    Dense(&'a [f32]),
    /// Plain weights in a 16-bit type.
    Half {
        /// `stride` words per row, of which the first `cols` are weights.
        words: &'a [u16],
        /// Words from one row to the next.
        stride: usize,
        /// `true` for bf16, `false` for f16.
        bf16: bool,
    },
    /// Companded values in `f32`. Decoded weights are rounded to the type they came from.
    F32 {
        /// `cols` values per row.
        u: &'a [f32],
        /// The α of all values.
        alpha: Alpha,
        /// The type of the weights before encoding.
        source: FloatDtype,
    },
    /// 8-bit companded codes.
    Q8 {
        /// `stride` bytes per row, of which the first `cols` are codes.
        codes: &'a [u8],
        /// Bytes from one row to the next.
        stride: usize,
        /// One scale per row.
        scale: &'a [f32],
        /// One curvature per row.
        curvature: &'a [f32],
    },
    /// Codes of 3 to 8 bits in groups.
    Grouped(GroupedRows<'a>),
    /// The bits of the source.
    Lossless {
        /// `stride` words per row, of which the first `cols` are the upper halves of weights, turned left by one bit.
        high: &'a [u16],
        /// The lower halves likewise, of a type of 32 bits; else empty.
        low: &'a [u16],
        /// Words from one row to the next.
        stride: usize,
        /// The type of the weights.
        source: FloatDtype,
    },
    /// Integer multiples of one step.
    Rate {
        /// `cols` integers per row.
        codes: &'a [i32],
        /// The step.
        step: f32,
    },
}

impl<'a> Rows<'a> {
    /// The rows of a matrix of this format.
    ///
    /// # Panics
    /// When there are fewer parts than the format has.
    pub fn new(format: &MatrixFormat, parts: &[&'a [u32]]) -> Self {
        let cols = format.cols();
        match format.form() {
            Form::Plain => {
                let (words, stride) = (bytemuck::cast_slice(parts[0]), stride_of_halves(cols));
                match format.source() {
                    FloatDtype::F32 => Self::Dense(floats(parts[0])),
                    FloatDtype::F16 => Self::Half { words, stride, bf16: false },
                    FloatDtype::Bf16 => Self::Half { words, stride, bf16: true },
                }
            }
            Form::CompandedFloat(form) => Self::F32 { u: floats(parts[0]), alpha: form.alpha, source: format.source() },
            Form::CompandedRow => Self::Q8 {
                codes: bytemuck::cast_slice(parts[0]),
                stride: stride(cols),
                scale: floats(parts[1]),
                curvature: floats(parts[2]),
            },
            Form::Grouped(layout) => Self::Grouped(GroupedRows {
                layout,
                packed: bytemuck::cast_slice(parts[0]),
                scale: floats(parts[1]),
                group_scale: bytemuck::cast_slice(parts[2]),
                selector: bytemuck::cast_slice(parts[3]),
                curvature: floats(parts[4]),
            }),
            Form::Lossless => Self::Lossless {
                high: bytemuck::cast_slice(parts[0]),
                low: parts.get(1).map_or(&[], |low| bytemuck::cast_slice(low)),
                stride: stride_of_halves(cols),
                source: format.source(),
            },
            Form::Rate => Self::Rate { codes: bytemuck::cast_slice(parts[0]), step: f32::from_bits(parts[1][0]) },
        }
    }

    /// Decodes row `row` into `out`, one weight per element.
    ///
    /// # Panics
    /// When the matrix has no such row.
    #[inline(always)]
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        let n = out.len();
        match *self {
            Self::Dense(w) => out.copy_from_slice(&w[row * n..][..n]),
            Self::Half { words, stride, bf16 } => {
                let words = &words[row * stride..][..n];
                if bf16 { each(words, out, widen_half::<true>) } else { each(words, out, widen_half::<false>) }
            }
            Self::F32 { u, alpha, source } => {
                let u = &u[row * n..][..n];
                // One loop for each type, in which it is a constant.
                match source {
                    FloatDtype::F32 => each(u, out, |u| qins_codec::decode_u(u, alpha)),
                    FloatDtype::Bf16 => each(u, out, |u| FloatDtype::Bf16.round(qins_codec::decode_u(u, alpha))),
                    FloatDtype::F16 => each(u, out, |u| FloatDtype::F16.round(qins_codec::decode_u(u, alpha))),
                }
            }
            Self::Q8 { codes, stride, scale, curvature } => {
                // Curvatures were checked when the matrix was made; an invalid one would decode as linear.
                let k = Curvature::new(curvature[row]).unwrap_or(Curvature::LINEAR);
                let codes = &codes[row * stride..][..n];
                qins_codec::slice::decode(codes, scale[row], k, out).expect("codes and output have one length");
            }
            Self::Grouped(grouped) => grouped.decode_row(row, out),
            Self::Lossless { high, low, stride, source } => {
                let low = if low.is_empty() { low } else { &low[row * stride..][..n] };
                widen_row(&high[row * stride..][..n], low, source, out);
            }
            Self::Rate { codes, step } => each(&codes[row * n..][..n], out, |q| step * q as f32),
        }
    }

    /// The weights of `n` rows starting at `first`: borrowed if they are stored as `f32`, else decoded into `scratch`.
    pub(super) fn tile<'s>(
        &self,
        simd: Simd,
        first: usize,
        n: usize,
        cols: usize,
        scratch: &'s mut Vec<f32>,
    ) -> &'s [f32]
    where
        'a: 's,
    {
        if let Self::Dense(w) = *self {
            return &w[first * cols..][..n * cols];
        }
        scratch.resize(n * cols, 0.0);
        decode_rows(simd, *self, first, cols, scratch);
        scratch
    }
}

per_isa! {
    /// Decodes rows starting at `first`.
    fn decode_rows(w: Rows<'_>, first: usize, cols: usize, out: &mut [f32]) = decode_rows_inlined
}

#[inline(always)]
fn decode_rows_inlined(w: Rows<'_>, first: usize, cols: usize, out: &mut [f32]) {
    for (i, out) in out.chunks_exact_mut(cols).enumerate() {
        w.decode_row(first + i, out);
    }
}

#[inline(always)]
fn each<T: Copy>(from: &[T], to: &mut [f32], decode: impl Fn(T) -> f32) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = decode(*from);
    }
}
