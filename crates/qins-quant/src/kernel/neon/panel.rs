//! A panel of weights times tiles of activations.

use core::arch::aarch64::*;

use crate::kernel::panel::{PANEL, Products, TILE, Tile, Words};

/// Rows of weights that are multiplied at a time.
const ROWS: usize = 4;

#[target_feature(enable = "neon")]
pub(super) fn add_products(w: &Words, units: &[f32; PANEL], x: &[Tile], y: &mut [Products]) {
    const { assert!(TILE == 16) };
    for (x, y) in x.iter().zip(y) {
        let rows = w.as_chunks::<ROWS>().0.iter().zip(units.as_chunks::<ROWS>().0);
        for ((w, units), y) in rows.zip(y.as_chunks_mut::<ROWS>().0) {
            let mut sums = [[vdupq_n_s32(0); 4]; ROWS];
            for (p, pairs) in x.pairs.iter().enumerate() {
                // SAFETY: both halves are eight pairs of words.
                let x = unsafe { [0, 8].map(|at| vld2q_s16(pairs.as_ptr().add(at).cast())) };
                for (sums, w) in sums.iter_mut().zip(w) {
                    let pair = [w[2 * p], w[2 * p + 1]];
                    for (i, int16x8x2_t(even, odd)) in x.into_iter().enumerate() {
                        sums[2 * i] = vmlal_n_s16(sums[2 * i], vget_low_s16(even), pair[0]);
                        sums[2 * i] = vmlal_n_s16(sums[2 * i], vget_low_s16(odd), pair[1]);
                        sums[2 * i + 1] = vmlal_high_n_s16(sums[2 * i + 1], even, pair[0]);
                        sums[2 * i + 1] = vmlal_high_n_s16(sums[2 * i + 1], odd, pair[1]);
                    }
                }
            }
            for ((sums, unit), y) in sums.into_iter().zip(units).zip(y) {
                for (i, sum) in sums.into_iter().enumerate() {
                    // SAFETY: steps and outputs are four times four numbers.
                    unsafe {
                        let (steps, y) = (x.steps.as_ptr().add(4 * i), y.as_mut_ptr().add(4 * i));
                        // Not fused, which would give other bits.
                        let term = vmulq_f32(vcvtq_f32_s32(sum), vmulq_n_f32(vld1q_f32(steps), *unit));
                        vst1q_f32(y, vaddq_f32(vld1q_f32(y), term));
                    }
                }
            }
        }
    }
}
