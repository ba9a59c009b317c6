//! Plain weights times a vector in AVX2: the same sums as without intrinsics, where the compiler keeps them in memory.

#![allow(unsafe_code)]

use core::arch::x86_64::*;

use super::LANES;
use crate::kernel::prefetch;

/// How weights are stored.
pub(super) trait Plain {
    /// A weight; all zeros is 0.
    type Word: Copy + Default;

    /// Eight weights.
    ///
    /// # Safety
    /// They can be read at `from`, and the machine has AVX2 and F16C.
    unsafe fn eight(from: *const Self::Word) -> __m256;
}

/// `f32`.
pub(super) struct Single;

/// `bf16`.
pub(super) struct Brain;

/// `f16`.
pub(super) struct Half;

impl Plain for Single {
    type Word = f32;

    #[inline(always)]
    unsafe fn eight(from: *const f32) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(from) }
    }
}

impl Plain for Brain {
    type Word = u16;

    #[inline(always)]
    unsafe fn eight(from: *const u16) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast())))) }
    }
}

impl Plain for Half {
    type Word = u16;

    #[inline(always)]
    unsafe fn eight(from: *const u16) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }
}

/// Dot products of `x` with rows that start `stride` elements apart.
#[target_feature(enable = "avx2,f16c")]
pub(super) fn dot_rows<P: Plain>(w: &[P::Word], stride: usize, first: usize, x: &[f32], y: &mut [f32]) {
    let w = &w[first * stride..];
    let (x, x_rest) = x.as_chunks::<LANES>();
    let mut x_last = [0.0; LANES];
    x_last[..x_rest.len()].copy_from_slice(x_rest);
    for (r, y) in y.iter_mut().enumerate() {
        let row = &w[r * stride..][..x.len() * LANES + x_rest.len()];
        let (row, row_rest) = row.as_chunks::<LANES>();
        let mut sums = [_mm256_setzero_ps(); LANES / 8];
        for (w, x) in row.iter().zip(x) {
            for line in (0..size_of_val(w)).step_by(64) {
                prefetch::line(w.as_ptr().wrapping_byte_add(line));
            }
            add::<P>(&mut sums, w, x);
        }
        if !row_rest.is_empty() {
            // Padded with zeros to a chunk like the others, so that the sums can stay in registers.
            let mut w_last = [P::Word::default(); LANES];
            w_last[..row_rest.len()].copy_from_slice(row_rest);
            add::<P>(&mut sums, &w_last, &x_last);
        }
        *y = sum(sums);
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn add<P: Plain>(sums: &mut [__m256; LANES / 8], w: &[P::Word; LANES], x: &[f32; LANES]) {
    for (i, sum) in sums.iter_mut().enumerate() {
        // SAFETY: both are four times eight elements.
        let (w, x) = unsafe { (P::eight(w.as_ptr().add(8 * i)), _mm256_loadu_ps(x.as_ptr().add(8 * i))) };
        // Not fused, which would give other bits.
        *sum = _mm256_add_ps(*sum, _mm256_mul_ps(w, x));
    }
}

/// The sum of all lanes, added pairwise.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn sum([s0, s1, s2, s3]: [__m256; LANES / 8]) -> f32 {
    let eight = _mm256_add_ps(_mm256_add_ps(s0, s2), _mm256_add_ps(s1, s3));
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}
