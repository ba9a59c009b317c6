//! The product in `f32`, of weights that are floats or decode to them.
//!
//! Every form is multiplied by the same routine in the same order, so two forms that decode to the same weights give the
//! same bits, and so does any number of threads.

use rayon::prelude::*;

use super::{
    Right, Rows, Simd, Sum,
    gemm::matmul,
    simd::{AHEAD, compiled_for_each, prefetch},
};
use crate::{FloatDtype, dtype::widen_half};

/// Decoded weights in flight per thread: half of a common 512 KiB second-level cache.
const TILE_BYTES: usize = 256 * 1024;

/// Rows of a tile at most, so that a small matrix has tiles for several threads; a multiple of common register blocks.
const TILE_ROWS: usize = 48;

/// Partial sums of a row's product.
const LANES: usize = 32;

/// `y[m, rows] = x[m, cols] · wᵀ`.
pub(super) fn product(simd: Simd, w: Rows<'_>, [rows, cols]: [usize; 2], x: &[f32], y: &mut [f32]) {
    let m = x.len() / cols;
    if m == 1 {
        let task = rows.div_ceil(8 * rayon::current_num_threads()).max(16);
        return y.par_chunks_mut(task).enumerate().for_each(|(t, y)| some_rows(simd, w, t * task, x, y));
    }
    // Threads share rows of W, which are columns of Y: they write Yᵀ, whose rows are theirs alone.
    let mut yt = vec![0.0; y.len()];
    // The shape alone decides of the tiles: another product may be summed in another order.
    let tile = (TILE_BYTES / (4 * cols)).clamp(1, TILE_ROWS);
    yt.par_chunks_mut(tile * m).enumerate().for_each_init(Vec::new, |scratch, (i, out)| {
        let w = w.tile(simd, i * tile, out.len() / m, cols, scratch);
        matmul(out, w, x, [w.len() / cols, m, cols], Right::Transposed, Sum::New);
    });
    y.par_chunks_mut(rows).enumerate().for_each(|(i, y)| {
        for (y, yt) in y.iter_mut().zip(yt[i..].iter().step_by(m)) {
            *y = *yt;
        }
    });
}

compiled_for_each! {
    /// Rows of weights from `first` on with one row of activations.
    fn some_rows(w: Rows<'_>, first: usize, x: &[f32], y: &mut [f32]) = some_rows_inlined
}

#[inline(always)]
fn some_rows_inlined(w: Rows<'_>, first: usize, x: &[f32], y: &mut [f32]) {
    let cols = x.len();
    match w {
        Rows::Dense(w) => each_row(w, cols, first, x, y, |w| w),
        Rows::Half { words, stride, bf16: true } => each_row(words, stride, first, x, y, widen_half::<true>),
        Rows::Half { words, stride, bf16: false } => each_row(words, stride, first, x, y, widen_half::<false>),
        // The type as a constant of each loop.
        Rows::F32 { u, alpha, source } => match source {
            FloatDtype::F32 => each_row(u, cols, first, x, y, |u| qins_codec::decode_u(u, alpha)),
            FloatDtype::Bf16 => {
                each_row(u, cols, first, x, y, |u| FloatDtype::Bf16.round(qins_codec::decode_u(u, alpha)));
            }
            FloatDtype::F16 => {
                each_row(u, cols, first, x, y, |u| FloatDtype::F16.round(qins_codec::decode_u(u, alpha)))
            }
        },
        _ => {
            let mut row = vec![0.0; cols];
            for (r, y) in y.iter_mut().enumerate() {
                w.decode_row(first + r, &mut row);
                each_row(&row, cols, 0, x, std::slice::from_mut(y), |w| w);
            }
        }
    }
}

/// The products of rows that lie `stride` apart, their numbers decoded one by one on the way.
#[inline(always)]
fn each_row<T: Copy>(w: &[T], stride: usize, first: usize, x: &[f32], y: &mut [f32], decode: impl Fn(T) -> f32) {
    let (x, x_rest) = x.as_chunks::<LANES>();
    let mut x_last = [0.0; LANES];
    x_last[..x_rest.len()].copy_from_slice(x_rest);
    for (r, y) in y.iter_mut().enumerate() {
        let row = &w[(first + r) * stride..][..x.len() * LANES + x_rest.len()];
        let (row, row_rest) = row.as_chunks::<LANES>();
        let mut sums = [0.0; LANES];
        for (w, x) in row.iter().zip(x) {
            for line in (0..size_of_val(w)).step_by(64) {
                prefetch(w.as_ptr().wrapping_byte_add(AHEAD + line));
            }
            for i in 0..LANES {
                sums[i] += decode(w[i]) * x[i];
            }
        }
        // Filled up with zeros, the rest is a chunk like the others, and nothing keeps the sums out of registers.
        let mut w_last = [0.0; LANES];
        w_last.iter_mut().zip(row_rest).for_each(|(last, w)| *last = decode(*w));
        for i in 0..LANES {
            sums[i] += w_last[i] * x_last[i];
        }
        *y = sum(sums);
    }
}

/// Pairwise.
#[inline(always)]
fn sum(mut sums: [f32; LANES]) -> f32 {
    let mut n = LANES / 2;
    while n > 0 {
        for i in 0..n {
            sums[i] += sums[i + n];
        }
        n /= 2;
    }
    sums[0]
}
