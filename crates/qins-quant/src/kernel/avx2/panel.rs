//! A panel of weights times many rows of activations.

use core::arch::x86_64::*;

use crate::kernel::{
    activations::BLOCK,
    panel::{PANEL, Panel, Words},
    portable,
};

#[target_feature(enable = "avx2")]
pub(super) fn interleave(words: &Words, panel: &mut Panel) {
    portable::interleave(words, panel);
}

#[target_feature(enable = "avx2")]
pub(super) fn panel_totals(panel: &Panel, x: &[i16], stride: usize, totals: &mut [[i32; PANEL]]) {
    let (pairs, rest) = totals.as_chunks_mut::<2>();
    let n = 2 * pairs.len();
    for (i, totals) in pairs.iter_mut().enumerate() {
        two_totals(panel, [2 * i, 2 * i + 1].map(|j| &x[j * stride..]), totals);
    }
    if let [last] = rest {
        let mut both = [[0; PANEL]; 2];
        two_totals(panel, [&x[n * stride..]; 2], &mut both);
        *last = both[0];
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn two_totals(panel: &Panel, x: [&[i16]; 2], totals: &mut [[i32; PANEL]; 2]) {
    assert!(x.iter().all(|x| x.len() >= BLOCK));
    let mut sums = [[_mm256_setzero_si256(); 4]; 2];
    for (p, panel) in panel.0.iter().enumerate() {
        let pairs = x.map(|x| {
            // SAFETY: by the assertion above, the block has 256 words.
            _mm256_set1_epi32(unsafe { x.as_ptr().add(2 * p).cast::<i32>().read_unaligned() })
        });
        for (i, w) in panel.as_chunks::<8>().0.iter().enumerate() {
            // SAFETY: `w` is 8 pairs of words.
            let w = unsafe { _mm256_loadu_si256(w.as_ptr().cast()) };
            for (sums, pair) in sums.iter_mut().zip(pairs) {
                sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(w, pair));
            }
        }
    }
    for (totals, sums) in totals.iter_mut().zip(sums) {
        for (sum, totals) in sums.into_iter().zip(totals.as_chunks_mut::<8>().0) {
            // SAFETY: `totals` is 8 integers of 32 bits.
            unsafe { _mm256_storeu_si256(totals.as_mut_ptr().cast(), sum) };
        }
    }
}
