//! A panel of weights times tiles of activations.

use core::arch::x86_64::*;

use crate::kernel::panel::{PANEL, Products, TILE, Tile, Words};

/// Rows of weights that are multiplied at a time.
const ROWS: usize = 4;

#[target_feature(enable = "avx2")]
pub(super) fn add_products(w: &Words, units: &[f32; PANEL], x: &[Tile], y: &mut [Products]) {
    const { assert!(TILE == 16) };
    for (x, y) in x.iter().zip(y) {
        let rows = w.as_chunks::<ROWS>().0.iter().zip(units.as_chunks::<ROWS>().0);
        for ((w, units), y) in rows.zip(y.as_chunks_mut::<ROWS>().0) {
            let mut sums = [[_mm256_setzero_si256(); 2]; ROWS];
            for (p, pairs) in x.pairs.iter().enumerate() {
                // SAFETY: both halves are eight pairs of words.
                let x = unsafe { [0, 8].map(|at| _mm256_loadu_si256(pairs.as_ptr().add(at).cast())) };
                for (sums, w) in sums.iter_mut().zip(w) {
                    // SAFETY: a row has 128 pairs of words.
                    let pair = _mm256_set1_epi32(unsafe { w.as_ptr().cast::<i32>().add(p).read_unaligned() });
                    for (sum, x) in sums.iter_mut().zip(x) {
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(x, pair));
                    }
                }
            }
            // By indices, so that the loops are unrolled and the sums never leave their registers.
            for r in 0..ROWS {
                for (i, sum) in sums[r].iter().enumerate() {
                    // SAFETY: steps and outputs are twice eight numbers.
                    unsafe {
                        let (steps, y) = (x.steps.as_ptr().add(8 * i), y[r].as_mut_ptr().add(8 * i));
                        let scale = _mm256_mul_ps(_mm256_loadu_ps(steps), _mm256_set1_ps(units[r]));
                        let term = _mm256_mul_ps(_mm256_cvtepi32_ps(*sum), scale);
                        _mm256_storeu_ps(y, _mm256_add_ps(_mm256_loadu_ps(y), term));
                    }
                }
            }
        }
    }
}
