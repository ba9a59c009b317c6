//! Rows of 8-bit codes: 128 levels of 16 bits are two look-ups, of low and of high bytes, in two registers each.

// Functions that must be inlined cannot enable AVX-512 themselves, and are therefore unsafe throughout.
#![allow(unsafe_op_in_unsafe_fn)]

use core::arch::x86_64::*;

use super::{
    curve,
    lanes::{BLOCKS, added, first, totals},
};
use crate::kernel::{
    activations::{ActivationRow, Activations, BLOCK},
    levels::Companded,
    prefetch::Ahead,
    row::{CompandedMatrix, CompandedRow},
};

/// Multiplies rows of weights, starting at row `from`, by each row of `x`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn gemv(w: &CompandedMatrix<'_>, x: &Activations, from: usize, out: &mut [f32]) {
    let ahead = Ahead::get();
    for (r, out) in (from..).zip(out.chunks_exact_mut(x.rows())) {
        let row = w.row(r);
        let levels = Registers(curve::levels(row.curve));
        for (j, y) in out.iter_mut().enumerate() {
            *y = product(&row, &levels, x.row(j), ahead);
        }
    }
}

/// The weights of block `b`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn unpack(row: &CompandedRow<'_>, levels: &Companded, b: usize, pairs: &mut [[i16; 32]]) {
    let levels = Registers::new(levels);
    for (i, pair) in pairs.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        // SAFETY: a block starts within the row; both halves of the pair are 32 words.
        unsafe {
            let [first, second] = levels.look_up(codes(row, b * BLOCK + 64 * i));
            _mm512_storeu_si512(pair[0].as_mut_ptr().cast(), first);
            _mm512_storeu_si512(pair[1].as_mut_ptr().cast(), second);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn product(row: &CompandedRow<'_>, levels: &Registers, a: ActivationRow<'_>, ahead: Ahead) -> f32 {
    let (values, blocks) = (a.values.as_chunks::<BLOCK>().0, a.steps.len());
    assert!(values.len() == blocks && row.codes.len().div_ceil(BLOCK) == blocks);
    let unit = _mm_set1_ps(row.unit);
    let whole = row.codes.len() / (BLOCKS * BLOCK);
    let mut sum = 0.0;
    // SAFETY: by the assertion above, there are activations and steps for all blocks that are named.
    unsafe {
        for i in 0..whole {
            let sums = totals([0, 1, 2, 3].map(|b| {
                let b = BLOCKS * i + b;
                let chunks = |c: usize| {
                    let codes = row.codes.as_ptr().add(b * BLOCK + 64 * c);
                    ahead.line(codes);
                    _mm512_loadu_si512(codes.cast())
                };
                levels.lanes(chunks, 4, values.get_unchecked(b))
            }));
            sum = added(sum, sums, first(a.steps.as_ptr().add(BLOCKS * i), BLOCKS), unit, BLOCKS);
        }
        let start = BLOCKS * whole;
        if start < blocks {
            let sums = totals([0, 1, 2, 3].map(|b| {
                let b = start + b;
                let left = row.codes.len().saturating_sub(b * BLOCK);
                if left == 0 {
                    return _mm512_setzero_si512();
                }
                let chunks = |c: usize| {
                    ahead.line(row.codes.as_ptr().wrapping_add(b * BLOCK + 64 * c));
                    codes(row, b * BLOCK + 64 * c)
                };
                levels.lanes(chunks, left.div_ceil(64).min(4), values.get_unchecked(b))
            }));
            let left = blocks - start;
            sum = added(sum, sums, first(a.steps.as_ptr().add(start), left), unit, left);
        }
    }
    sum
}

/// 64 codes, starting at column `start`; zeros beyond the end of the row.
#[inline(always)]
unsafe fn codes(row: &CompandedRow<'_>, start: usize) -> __m512i {
    let left = row.codes.len().saturating_sub(start).min(64);
    let mask = u64::MAX.checked_shr(64 - left as u32).unwrap_or(0);
    _mm512_maskz_loadu_epi8(mask, row.codes.as_ptr().wrapping_add(start).cast())
}

/// The tables of a row: two registers of low bytes and two of high bytes, 64 levels each.
struct Registers([__m512i; 4]);

impl Registers {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn new(levels: &Companded) -> Self {
        let [low, high] = [levels.low.as_ptr(), levels.high.as_ptr()];
        // SAFETY: both tables are 128 bytes.
        Self(unsafe { [low, low.add(64), high, high.add(64)].map(|p| _mm512_loadu_si512(p.cast())) })
    }

    /// The levels of 64 codes, in their order.
    #[inline(always)]
    unsafe fn look_up(&self, codes: __m512i) -> [__m512i; 2] {
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

    /// The lanes of Σ w·a of the first `n` times 64 codes of a block.
    #[inline(always)]
    unsafe fn lanes(&self, codes: impl Fn(usize) -> __m512i, n: usize, a: &[i16; BLOCK]) -> __m512i {
        let mut sums = [_mm512_setzero_si512(); 2];
        for (c, a) in a.as_chunks::<64>().0.iter().enumerate().take(n) {
            let words = self.look_up(codes(c));
            for ((sum, word), a) in sums.iter_mut().zip(words).zip(a.as_chunks::<32>().0) {
                *sum = _mm512_dpwssd_epi32(*sum, word, _mm512_loadu_si512(a.as_ptr().cast()));
            }
        }
        _mm512_add_epi32(sums[0], sums[1])
    }
}
