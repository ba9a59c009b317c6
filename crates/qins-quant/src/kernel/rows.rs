//! A borrowed matrix, row by row, in whatever form it rests.

use qins_codec::{Alpha, Curvature};

use crate::{FloatDtype, GroupedRows, Words};

/// The rows of a matrix as a kernel reads them. `cols` is the caller's: the length of the output of
/// [`decode_row`](Self::decode_row).
#[derive(Clone, Copy, Debug)]
pub enum Rows<'a> {
    /// Plain weights, `cols` per row.
    Dense(&'a [f32]),
    /// The complement form as `f32`; decoded values are rounded to the type they came from.
    F32 {
        /// `cols` values per row.
        u: &'a [f32],
        /// The α they share.
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
    /// The source's own bits.
    Lossless {
        /// `cols` words per row.
        words: &'a Words,
        /// The type of the words.
        source: FloatDtype,
    },
    /// Whole numbers of a step.
    Rate {
        /// `cols` numbers per row.
        codes: &'a [i32],
        /// The step.
        step: f32,
    },
}

impl<'a> Rows<'a> {
    /// Decodes row `row` into `out`, one weight per element.
    ///
    /// # Panics
    /// When the row lies outside the matrix.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        let cols = out.len();
        match *self {
            Self::Dense(w) => out.copy_from_slice(&w[row * cols..][..cols]),
            Self::F32 { u, alpha, source } => {
                for (out, &u) in out.iter_mut().zip(&u[row * cols..][..cols]) {
                    *out = source.round(qins_codec::decode_u(u, alpha));
                }
            }
            Self::Q8 { codes, stride, scale, curvature } => {
                // Parameters were checked when the matrix was made; a curvature that is none decodes as linear.
                let k = Curvature::new(curvature[row]).unwrap_or(Curvature::LINEAR);
                let codes = &codes[row * stride..][..cols];
                qins_codec::slice::decode(codes, scale[row], k, out).expect("codes and output have one length");
            }
            Self::Grouped(grouped) => grouped.decode_row(row, out),
            Self::Lossless { words, source } => {
                words.widen(row * cols, source, out);
            }
            Self::Rate { codes, step } => {
                for (out, &q) in out.iter_mut().zip(&codes[row * cols..][..cols]) {
                    *out = step * q as f32;
                }
            }
        }
    }

    /// The weights of `n` rows from `first` on: borrowed where they rest plain, else decoded into `scratch`.
    pub(super) fn tile<'s>(&self, first: usize, n: usize, cols: usize, scratch: &'s mut Vec<f32>) -> &'s [f32]
    where
        'a: 's,
    {
        if let Self::Dense(w) = *self {
            return &w[first * cols..][..n * cols];
        }
        scratch.resize(n * cols, 0.0);
        for (i, out) in scratch.chunks_exact_mut(cols).enumerate() {
            self.decode_row(first + i, out);
        }
        scratch
    }
}
