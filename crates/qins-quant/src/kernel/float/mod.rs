//! The product in `f32`, of weights that are floats or decode to floats.
//!
//! All forms are multiplied by the same routine in the same order, so two forms that decode to the same weights give the same
//! bits, for any number of threads. One row of activations is multiplied here, several by [`many`] where there is AVX2, and by
//! the crate `gemm` elsewhere.

#[cfg(target_arch = "x86_64")]
pub(super) mod many;
#[cfg(target_arch = "x86_64")]
pub(super) mod tiles;
#[cfg(target_arch = "x86_64")]
mod x86;

use rayon::prelude::*;

use super::{Rows, Simd, gemm::matmul, simd::per_isa};
use crate::{FloatDtype, dtype::widen_half};

/// Most bytes of decoded weights per thread at a time.
const TILE_BYTES: usize = 4 << 20;

/// Rows of a tile. For each tile all activations are rearranged, which takes as long as multiplying them by a dozen rows; a small
/// matrix has smaller ones, so that there are some for several threads.
const TILE_ROWS: std::ops::RangeInclusive<usize> = 48..=96;

/// Partial sums of a dot product.
const LANES: usize = 32;

/// `y[m, rows] = x[m, cols] · wᵀ`.
pub(super) fn product(simd: Simd, w: Rows<'_>, [rows, cols]: [usize; 2], x: &[f32], y: &mut [f32]) {
    let m = x.len() / cols;
    if m == 1 {
        let task = rows.div_ceil(8 * rayon::current_num_threads()).max(16);
        return y.par_chunks_mut(task).enumerate().for_each(|(t, y)| gemv(simd, w, t * task, x, y));
    }
    #[cfg(target_arch = "x86_64")]
    if simd.fuses_floats() {
        return many::product(simd, w, [rows, cols], x, y);
    }
    // Each thread takes some rows of W, which are columns of Y. It writes them as rows of Yᵀ, which are contiguous.
    let mut yt = vec![0.0; y.len()];
    // The size of a tile depends on the shape alone: with another, sums might be taken in another order.
    let tile = rows.div_ceil(4).clamp(*TILE_ROWS.start(), *TILE_ROWS.end()).min(TILE_BYTES / (4 * cols)).max(1);
    yt.par_chunks_mut(tile * m).enumerate().for_each_init(Vec::new, |scratch, (i, out)| {
        let w = w.tile(simd, i * tile, out.len() / m, cols, scratch);
        matmul(simd, out, w, x, [w.len() / cols, m, cols]);
    });
    y.par_chunks_mut(rows).enumerate().for_each(|(i, y)| {
        for (y, yt) in y.iter_mut().zip(yt[i..].iter().step_by(m)) {
            *y = *yt;
        }
    });
}

/// Multiplies rows of weights, starting at `first`, by one row of activations.
#[allow(unsafe_code)]
fn gemv(simd: Simd, w: Rows<'_>, first: usize, x: &[f32], y: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if matches!(simd, Simd::Avx2 | Simd::AvxVnni | Simd::Avx512) {
        // SAFETY: `simd` is from `Simd::get` or `linear_on`, which accept available instruction sets only.
        unsafe {
            match w {
                Rows::Dense(w) => return x86::dot_rows::<x86::Single>(w, x.len(), first, x, y),
                Rows::Half { words, stride, bf16: true } => {
                    return x86::dot_rows::<x86::Brain>(words, stride, first, x, y);
                }
                Rows::Half { words, stride, bf16: false } => {
                    return x86::dot_rows::<x86::Half>(words, stride, first, x, y);
                }
                _ => {}
            }
        }
    }
    gemv_on(simd, w, first, x, y);
}

per_isa! {
    fn gemv_on(w: Rows<'_>, first: usize, x: &[f32], y: &mut [f32]) = gemv_inlined
}

#[inline(always)]
fn gemv_inlined(w: Rows<'_>, first: usize, x: &[f32], y: &mut [f32]) {
    let cols = x.len();
    match w {
        Rows::Dense(w) => dot_rows(w, cols, first, x, y, |w| w),
        Rows::Half { words, stride, bf16: true } => dot_rows(words, stride, first, x, y, widen_half::<true>),
        Rows::Half { words, stride, bf16: false } => dot_rows(words, stride, first, x, y, widen_half::<false>),
        // One loop for each type, in which it is a constant.
        Rows::F32 { u, alpha, source } => match source {
            FloatDtype::F32 => dot_rows(u, cols, first, x, y, |u| qins_codec::decode_u(u, alpha)),
            FloatDtype::Bf16 => {
                dot_rows(u, cols, first, x, y, |u| FloatDtype::Bf16.round(qins_codec::decode_u(u, alpha)));
            }
            FloatDtype::F16 => {
                dot_rows(u, cols, first, x, y, |u| FloatDtype::F16.round(qins_codec::decode_u(u, alpha)))
            }
        },
        Rows::Q8 { .. } | Rows::Grouped(_) | Rows::Lossless { .. } | Rows::Rate { .. } => {
            let mut row = vec![0.0; cols];
            for (r, y) in y.iter_mut().enumerate() {
                w.decode_row(first + r, &mut row);
                dot_rows(&row, cols, 0, x, std::slice::from_mut(y), |w| w);
            }
        }
    }
}

/// Dot products of `x` with rows that start `stride` elements apart, each element decoded as it is read.
#[inline(always)]
fn dot_rows<T: Copy>(w: &[T], stride: usize, first: usize, x: &[f32], y: &mut [f32], decode: impl Fn(T) -> f32) {
    let (x, x_rest) = x.as_chunks::<LANES>();
    let mut x_last = [0.0; LANES];
    x_last[..x_rest.len()].copy_from_slice(x_rest);
    for (r, y) in y.iter_mut().enumerate() {
        let row = &w[(first + r) * stride..][..x.len() * LANES + x_rest.len()];
        let (row, row_rest) = row.as_chunks::<LANES>();
        let mut sums = [0.0; LANES];
        for (w, x) in row.iter().zip(x) {
            for i in 0..LANES {
                sums[i] += decode(w[i]) * x[i];
            }
        }
        // The rest is padded with zeros to a chunk like the others, so that the sums can stay in registers.
        let mut w_last = [0.0; LANES];
        w_last.iter_mut().zip(row_rest).for_each(|(last, w)| *last = decode(*w));
        for i in 0..LANES {
            sums[i] += w_last[i] * x_last[i];
        }
        *y = sum(sums);
    }
}

/// The sum of all lanes, added pairwise.
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
