//! A panel of weights times many rows of activations.

use core::arch::x86_64::*;

use crate::kernel::{
    activations::BLOCK,
    panel::{PANEL, Panel, Words},
};

/// Transposes squares of 16 rows by 16 pairs of columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn interleave(words: &Words, panel: &mut Panel) {
    for half in 0..PANEL / 16 {
        for start in 0..BLOCK / 32 {
            let square: [__m512i; 16] = std::array::from_fn(|r| {
                let row = &words[16 * half + r][32 * start..][..32];
                // SAFETY: `row` is 32 words.
                unsafe { _mm512_loadu_si512(row.as_ptr().cast()) }
            });
            for (pair, column) in transpose(square).into_iter().enumerate() {
                let to = &mut panel.0[16 * start + pair][16 * half..][..16];
                // SAFETY: `to` is 16 pairs of words.
                unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), column) };
            }
        }
    }
}

/// Transposes a square of 32-bit elements.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn transpose(r: [__m512i; 16]) -> [__m512i; 16] {
    // First within 128-bit lanes, four rows at a time; then the lanes themselves.
    let pairs: [__m512i; 16] = std::array::from_fn(|i| {
        let (a, b) = (r[i / 2 * 2], r[i / 2 * 2 + 1]);
        if i % 2 == 0 { _mm512_unpacklo_epi32(a, b) } else { _mm512_unpackhi_epi32(a, b) }
    });
    // fours[4·q + c]: column 4·lane + c of rows 4q..4q+4.
    let fours: [__m512i; 16] = std::array::from_fn(|i| {
        let (q, c) = (i / 4, i % 4);
        let (a, b) = (pairs[4 * q + c / 2], pairs[4 * q + c / 2 + 2]);
        if c % 2 == 0 { _mm512_unpacklo_epi64(a, b) } else { _mm512_unpackhi_epi64(a, b) }
    });
    let mut out = [_mm512_setzero_si512(); 16];
    for c in 0..4 {
        let [q0, q1, q2, q3] = [0, 1, 2, 3].map(|q| fours[4 * q + c]);
        let (a, b) = (_mm512_shuffle_i32x4::<0x44>(q0, q1), _mm512_shuffle_i32x4::<0xee>(q0, q1));
        let (e, f) = (_mm512_shuffle_i32x4::<0x44>(q2, q3), _mm512_shuffle_i32x4::<0xee>(q2, q3));
        out[c] = _mm512_shuffle_i32x4::<0x88>(a, e);
        out[4 + c] = _mm512_shuffle_i32x4::<0xdd>(a, e);
        out[8 + c] = _mm512_shuffle_i32x4::<0x88>(b, f);
        out[12 + c] = _mm512_shuffle_i32x4::<0xdd>(b, f);
    }
    out
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn panel_totals(panel: &Panel, x: &[i16], stride: usize, totals: &mut [[i32; PANEL]]) {
    let mut rest = totals;
    let mut x = x;
    while !rest.is_empty() {
        let n = match rest.len() {
            8.. => 8,
            4.. => 4,
            2.. => 2,
            _ => 1,
        };
        let (now, later) = rest.split_at_mut(n);
        match n {
            8 => some_totals::<8>(panel, x, stride, now),
            4 => some_totals::<4>(panel, x, stride, now),
            2 => some_totals::<2>(panel, x, stride, now),
            _ => some_totals::<1>(panel, x, stride, now),
        }
        rest = later;
        x = x.get(n * stride..).unwrap_or_default();
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn some_totals<const M: usize>(panel: &Panel, x: &[i16], stride: usize, totals: &mut [[i32; PANEL]]) {
    assert!(totals.len() == M && x.len() >= (M - 1) * stride + BLOCK);
    let mut sums = [[_mm512_setzero_si512(); 2]; M];
    for (p, panel) in panel.0.iter().enumerate() {
        // SAFETY: `panel` is 32 pairs of words.
        let w = unsafe { [0, 16].map(|r| _mm512_loadu_si512(panel.as_ptr().add(r).cast())) };
        for (j, sums) in sums.iter_mut().enumerate() {
            // SAFETY: by the assertion above, each of M rows has a block of 256 words.
            let pair = unsafe { x.as_ptr().add(j * stride + 2 * p).cast::<i32>().read_unaligned() };
            let pair = _mm512_set1_epi32(pair);
            for (sum, w) in sums.iter_mut().zip(w) {
                *sum = _mm512_dpwssd_epi32(*sum, w, pair);
            }
        }
    }
    for (totals, sums) in totals.iter_mut().zip(sums) {
        for (sum, totals) in sums.into_iter().zip(totals.as_chunks_mut::<16>().0) {
            // SAFETY: `totals` is 16 integers of 32 bits.
            unsafe { _mm512_storeu_si512(totals.as_mut_ptr().cast(), sum) };
        }
    }
}
