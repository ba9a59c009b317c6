//! A panel of weights times many rows of activations.

use core::arch::aarch64::*;

use crate::kernel::{
    activations::BLOCK,
    panel::{PANEL, Panel, Words},
    portable,
};

#[target_feature(enable = "neon")]
pub(super) fn interleave(words: &Words, panel: &mut Panel) {
    portable::interleave(words, panel);
}

#[target_feature(enable = "neon")]
pub(super) fn panel_totals(panel: &Panel, x: &[i16], stride: usize, totals: &mut [[i32; PANEL]]) {
    let mut rows = x.chunks(stride);
    for totals in totals.chunks_mut(2) {
        let rows: [&[i16]; 2] = std::array::from_fn(|_| rows.next().unwrap_or_default());
        match totals {
            [one] => some_totals([rows[0]], panel, [one]),
            [one, other] => some_totals(rows, panel, [one, other]),
            _ => {}
        }
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn some_totals<const M: usize>(x: [&[i16]; M], panel: &Panel, totals: [&mut [i32; PANEL]; M]) {
    let x = x.map(|x| x[..BLOCK].as_chunks::<2>().0);
    let mut sums = [[vdupq_n_s32(0); PANEL / 4]; M];
    for (p, panel) in panel.0.iter().enumerate() {
        for (i, w) in panel.as_chunks::<8>().0.iter().enumerate() {
            // SAFETY: `w` is 8 pairs of words.
            let int16x8x2_t(even, odd) = unsafe { vld2q_s16(w.as_ptr().cast()) };
            for (sums, x) in sums.iter_mut().zip(x) {
                let pair = x[p];
                sums[2 * i] = vmlal_n_s16(sums[2 * i], vget_low_s16(even), pair[0]);
                sums[2 * i] = vmlal_n_s16(sums[2 * i], vget_low_s16(odd), pair[1]);
                sums[2 * i + 1] = vmlal_high_n_s16(sums[2 * i + 1], even, pair[0]);
                sums[2 * i + 1] = vmlal_high_n_s16(sums[2 * i + 1], odd, pair[1]);
            }
        }
    }
    for (totals, sums) in totals.into_iter().zip(sums) {
        for (sum, totals) in sums.into_iter().zip(totals.as_chunks_mut::<4>().0) {
            // SAFETY: `totals` is 4 integers of 32 bits.
            unsafe { vst1q_s32(totals.as_mut_ptr(), sum) };
        }
    }
}
