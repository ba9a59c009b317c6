//! A panel of weights times tiles of activations.

// Functions that must be inlined cannot enable AVX2 themselves, and are therefore unsafe throughout.
#![allow(unsafe_op_in_unsafe_fn)]

use core::arch::x86_64::*;

use crate::kernel::panel::{PANEL, Products, TILE, Tile, Words};

/// Rows of weights that are multiplied at a time.
const ROWS: usize = 4;

#[target_feature(enable = "avx2")]
pub(super) fn add_products(w: &Words, units: &[f32; PANEL], x: &[Tile], y: &mut [Products]) {
    // SAFETY: this function has AVX2.
    unsafe { add_products_of::<false>(w, units, x, y) };
}

#[target_feature(enable = "avx2,avxvnni")]
pub(super) fn add_products_vnni(w: &Words, units: &[f32; PANEL], x: &[Tile], y: &mut [Products]) {
    // SAFETY: this function has both.
    unsafe { add_products_of::<true>(w, units, x, y) };
}

/// # Safety
/// The machine has AVX2, and AVX-VNNI if `VNNI`.
#[inline(always)]
unsafe fn add_products_of<const VNNI: bool>(w: &Words, units: &[f32; PANEL], x: &[Tile], y: &mut [Products]) {
    const { assert!(TILE == 16) };
    for (x, y) in x.iter().zip(y) {
        let rows = w.as_chunks::<ROWS>().0.iter().zip(units.as_chunks::<ROWS>().0);
        for ((w, units), y) in rows.zip(y.as_chunks_mut::<ROWS>().0) {
            let mut sums = [[_mm256_setzero_si256(); 2]; ROWS];
            for (p, pairs) in x.pairs.iter().enumerate() {
                // Both halves are eight pairs of words.
                let (first, second) =
                    (_mm256_loadu_si256(pairs.as_ptr().cast()), _mm256_loadu_si256(pairs.as_ptr().add(8).cast()));
                for (sums, w) in sums.iter_mut().zip(w) {
                    // A row has 128 pairs of words.
                    let pair = _mm256_set1_epi32(w.as_ptr().cast::<i32>().add(p).read_unaligned());
                    sums[0] = multiply_add::<VNNI>(sums[0], first, pair);
                    sums[1] = multiply_add::<VNNI>(sums[1], second, pair);
                }
            }
            // By indices, so that the loops are unrolled and the sums never leave their registers.
            for r in 0..ROWS {
                for (i, sum) in sums[r].iter().enumerate() {
                    // Steps and outputs are twice eight numbers.
                    let (steps, y) = (x.steps.as_ptr().add(8 * i), y[r].as_mut_ptr().add(8 * i));
                    let scale = _mm256_mul_ps(_mm256_loadu_ps(steps), _mm256_set1_ps(units[r]));
                    let term = _mm256_mul_ps(_mm256_cvtepi32_ps(*sum), scale);
                    _mm256_storeu_ps(y, _mm256_add_ps(_mm256_loadu_ps(y), term));
                }
            }
        }
    }
}

/// Adds the products of pairs of words.
#[inline(always)]
unsafe fn multiply_add<const VNNI: bool>(sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
    if VNNI { _mm256_dpwssd_avx_epi32(sums, a, b) } else { _mm256_add_epi32(sums, _mm256_madd_epi16(a, b)) }
}
