//! Rows of 8-bit codes: 128 levels of 16 bits are two look-ups, of low and of high bytes, in two registers each.

use core::arch::x86_64::*;

use super::lanes::{halves_of, lanes_added};
use crate::kernel::{
    activations::BLOCK,
    row::CompandedRow,
    simd::{PREFETCH_DISTANCE, prefetch},
};

/// Σ w·a of each block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn totals(row: &CompandedRow<'_>, a: &[[i16; BLOCK]], totals: &mut [i32]) {
    let levels = Registers::new(row);
    for (b, (total, a)) in totals.iter_mut().zip(a).enumerate() {
        *total = companded_block(row, &levels, b, a);
    }
}

/// The weights of block `b`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn unpack(row: &CompandedRow<'_>, b: usize, pairs: &mut [[i16; 32]]) {
    let levels = Registers::new(row);
    for (i, pair) in pairs.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        let [first, second] = levels.look_up(codes(row, b * BLOCK + 64 * i));
        // SAFETY: both are 32 words.
        unsafe {
            _mm512_storeu_si512(pair[0].as_mut_ptr().cast(), first);
            _mm512_storeu_si512(pair[1].as_mut_ptr().cast(), second);
        }
    }
}

/// The tables of a row: two registers of low bytes and two of high bytes, 64 levels each.
struct Registers([__m512i; 4]);

impl Registers {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn new(row: &CompandedRow<'_>) -> Self {
        let [low, high] = [row.levels.low.as_ptr(), row.levels.high.as_ptr()];
        // SAFETY: both tables are 128 bytes.
        Self(unsafe { [low, low.add(64), high, high.add(64)].map(|p| _mm512_loadu_si512(p.cast())) })
    }

    /// The levels of 64 codes, in their order.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn look_up(&self, codes: __m512i) -> [__m512i; 2] {
        let [low0, low1, high0, high1] = self.0;
        // In this order, unpacking within 128-bit lanes gives the columns in their order.
        let codes = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7), codes);
        // Negative, but not −0, which is 128.
        let negative = _mm512_cmpgt_epu8_mask(codes, _mm512_set1_epi8(i8::MIN));
        let low = _mm512_permutex2var_epi8(low0, codes, low1);
        let high = _mm512_permutex2var_epi8(high0, codes, high1);
        let low = _mm512_mask_sub_epi8(low, negative, _mm512_setzero_si512(), low);
        let high = _mm512_mask_sub_epi8(high, negative, _mm512_set1_epi8(-1), high);
        [_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high)]
    }
}

/// 64 codes, starting at column `start`; zeros beyond the end of the row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn codes(row: &CompandedRow<'_>, start: usize) -> __m512i {
    let left = row.codes.len().saturating_sub(start);
    let from = row.codes.as_ptr().wrapping_add(start);
    if left >= 64 {
        prefetch(from.wrapping_add(PREFETCH_DISTANCE));
        // SAFETY: the row has 64 codes from `start`.
        unsafe { _mm512_loadu_si512(from.cast()) }
    } else {
        // SAFETY: only the remaining codes of the row are read.
        unsafe { _mm512_maskz_loadu_epi8((1 << left) - 1, from.cast()) }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn companded_block(row: &CompandedRow<'_>, levels: &Registers, b: usize, a: &[i16; BLOCK]) -> i32 {
    let mut sums = [_mm512_setzero_si512(); 2];
    for (i, a) in a.as_chunks::<64>().0.iter().enumerate() {
        let words = levels.look_up(codes(row, b * BLOCK + 64 * i));
        for ((sum, word), a) in sums.iter_mut().zip(words).zip(a.as_chunks::<32>().0) {
            // SAFETY: `a` is 32 words.
            *sum = _mm512_dpwssd_epi32(*sum, word, unsafe { _mm512_loadu_si512(a.as_ptr().cast()) });
        }
    }
    let both = halves_of(_mm512_add_epi32(sums[0], sums[1]));
    lanes_added(_mm256_add_epi32(both[0], both[1]))
}
