//! A panel of weights times tiles of activations.

use core::arch::x86_64::*;

use crate::kernel::{
    activations::BLOCK,
    panel::{PANEL, Products, TILE, Tile, Words},
};

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,avx512vnni")]
pub(super) fn add_products(w: &Words, units: &[f32; PANEL], x: &[Tile], y: &mut [Products]) {
    let ((pairs, last), (y_pairs, y_last)) = (x.as_chunks::<2>(), y.as_chunks_mut::<2>());
    for (x, y) in pairs.iter().zip(y_pairs) {
        add_some::<8, 2>(w, units, x, y);
    }
    if let ([x], [y]) = (last, y_last) {
        add_some::<16, 1>(w, units, core::array::from_ref(x), core::array::from_mut(y));
    }
}

/// Multiplies `ROWS` rows of weights at a time by some tiles: each weight is broadcast, and multiplied by 16 rows of activations.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,avx512vnni")]
fn add_some<const ROWS: usize, const TILES: usize>(
    w: &Words,
    units: &[f32; PANEL],
    x: &[Tile; TILES],
    y: &mut [Products; TILES],
) {
    const { assert!(TILE == 16) };
    for (i, (w, units)) in w.as_chunks::<ROWS>().0.iter().zip(units.as_chunks::<ROWS>().0).enumerate() {
        let mut sums = [[_mm512_setzero_si512(); TILES]; ROWS];
        for p in 0..BLOCK / 2 {
            // SAFETY: each is 16 pairs of words.
            let x: [__m512i; TILES] =
                core::array::from_fn(|t| unsafe { _mm512_loadu_si512(x[t].pairs[p].as_ptr().cast()) });
            for (sums, w) in sums.iter_mut().zip(w) {
                // SAFETY: a row has 128 pairs of words.
                let pair = _mm512_set1_epi32(unsafe { w.as_ptr().cast::<i32>().add(p).read_unaligned() });
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum = _mm512_dpwssd_epi32(*sum, x, pair);
                }
            }
        }
        // By indices, so that the loops are unrolled and the sums never leave their registers.
        for r in 0..ROWS {
            for t in 0..TILES {
                let y = y[t][ROWS * i + r].as_mut_ptr();
                // SAFETY: steps and outputs are 16 numbers.
                unsafe {
                    let scale = _mm512_mul_ps(_mm512_loadu_ps(x[t].steps.as_ptr()), _mm512_set1_ps(units[r]));
                    let term = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[r][t]), scale);
                    _mm512_storeu_ps(y, _mm512_add_ps(_mm512_loadu_ps(y), term));
                }
            }
        }
    }
}
