//! Rows of 8-bit codes: 128 levels of 16 bits are looked up by their low and by their high bytes, in two registers each.

// Functions that must be inlined cannot enable AVX-512 themselves, and are therefore unsafe throughout.
#![allow(unsafe_op_in_unsafe_fn)]

use core::arch::x86_64::*;

use super::{
    curve,
    lanes::{BLOCKS, Late, first, load},
};
use crate::kernel::{
    activations::{ActivationRow, Activations, BLOCK, Signed},
    levels::Companded,
    prefetch,
    row::{CompandedMatrix, CompandedRow},
};

/// Multiplies rows of weights, starting at row `from`, by each row of `x`. `SPLIT` is how levels are [looked up](Registers::magnitudes).
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,avx512vnni")]
pub(super) fn gemv<const SPLIT: bool>(w: &CompandedMatrix<'_>, x: &Activations, from: usize, out: &mut [f32]) {
    // SAFETY: this function enables what these need.
    let mut late = unsafe { Late::new(out) };
    let x = x.all();
    let rows = late.len() / x.len();
    let row_of = |i: usize| {
        let row = w.row(from + i);
        (row, Registers(curve::levels(row.curve)))
    };
    let Some(mut now) = (rows > 0).then(|| row_of(0)) else { return };
    for i in 0..rows {
        w.fetch_after(from + i);
        // The levels of the next row, while this one is multiplied: their divisions take long.
        let next = row_of((i + 1).min(rows - 1));
        for (j, a) in x.iter().enumerate() {
            add_product::<SPLIT>(&now.0, &now.1, *a, &mut late, i * x.len() + j);
        }
        now = next;
    }
    // SAFETY: as above.
    unsafe { late.finish() };
}

/// The weights of block `b`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,avx512vnni")]
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

/// Adds the product of two rows to output `at`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,avx512vnni")]
fn add_product<const SPLIT: bool>(
    row: &CompandedRow<'_>,
    levels: &Registers,
    a: ActivationRow<'_>,
    late: &mut Late<'_, [__m512i; BLOCKS]>,
    at: usize,
) {
    let blocks = a.steps.len();
    let (signed, _) = a.signed.as_chunks();
    assert!(signed.len() == blocks && row.codes.len().div_ceil(BLOCK) == blocks && at < late.len());
    for start in (0..blocks).step_by(BLOCKS) {
        let n = (blocks - start).min(BLOCKS);
        // SAFETY: by the assertion above, there are activations and steps for all blocks that are named.
        unsafe {
            let lanes = [
                levels.block::<SPLIT>(row, start, signed),
                levels.block::<SPLIT>(row, start + 1, signed),
                levels.block::<SPLIT>(row, start + 2, signed),
                levels.block::<SPLIT>(row, start + 3, signed),
            ];
            late.add(at, lanes, [first(a.steps.as_ptr().add(start), n), _mm_set1_ps(row.unit)], n);
        }
    }
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
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,avx512vnni")]
    fn new(levels: &Companded) -> Self {
        let [low, high] = [levels.low.as_ptr(), levels.high.as_ptr()];
        // SAFETY: both tables are 128 bytes.
        Self(unsafe { [low, low.add(64), high, high.add(64)].map(|p| _mm512_loadu_si512(p.cast())) })
    }

    /// The low and the high bytes of the levels of 64 codes, without their signs: of each two registers at once, or `SPLIT` into one look-up
    /// in each of them. On Emerald Rapids the former takes longer than two of the latter, and whole models decode 1.01 to 1.10 times as fast split.
    #[inline(always)]
    unsafe fn magnitudes<const SPLIT: bool>(&self, codes: __m512i) -> [__m512i; 2] {
        let [low0, low1, high0, high1] = self.0;
        if !SPLIT {
            return [_mm512_permutex2var_epi8(low0, codes, low1), _mm512_permutex2var_epi8(high0, codes, high1)];
        }
        let second = _mm512_test_epi8_mask(codes, _mm512_set1_epi8(64));
        let look_up =
            |first, other| _mm512_mask_permutexvar_epi8(_mm512_permutexvar_epi8(codes, first), second, codes, other);
        [look_up(low0, low1), look_up(high0, high1)]
    }

    /// The levels of 64 codes, in their order.
    #[inline(always)]
    unsafe fn look_up(&self, codes: __m512i) -> [__m512i; 2] {
        // In this order, unpacking within 128-bit lanes gives the columns in their order.
        let codes = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7), codes);
        // Negative, but not −0, which is 128.
        let negative = _mm512_cmpgt_epu8_mask(codes, _mm512_set1_epi8(i8::MIN));
        let [low, high] = self.magnitudes::<false>(codes);
        let low = _mm512_mask_sub_epi8(low, negative, _mm512_setzero_si512(), low);
        let high = _mm512_mask_sub_epi8(high, negative, _mm512_set1_epi8(-1), high);
        [_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high)]
    }

    /// The lanes of Σ w·a of block `b`; zeros after the last.
    #[inline(always)]
    unsafe fn block<const SPLIT: bool>(&self, row: &CompandedRow<'_>, b: usize, a: &[[Signed; BLOCK / 64]]) -> __m512i {
        let Some(a) = a.get(b) else { return _mm512_setzero_si512() };
        let from = row.codes.as_ptr().wrapping_add(b * BLOCK);
        let whole = row.codes.len() >= (b + 1) * BLOCK;
        let codes_at = |c: usize| {
            prefetch::line(from.wrapping_add(64 * c));
            if whole { _mm512_loadu_si512(from.add(64 * c).cast()) } else { codes(row, b * BLOCK + 64 * c) }
        };
        self.lanes::<SPLIT>(codes_at, a)
    }

    /// The lanes of Σ w·a of a block, of which `codes` gives 64 codes at a time.
    ///
    /// Bytes of levels are multiplied by bytes of activations: words would have to be put together, and the instructions that
    /// move bytes are what there are most of.
    #[inline(always)]
    unsafe fn lanes<const SPLIT: bool>(&self, codes: impl Fn(usize) -> __m512i, a: &[Signed; BLOCK / 64]) -> __m512i {
        let [mut lows, mut low_high, mut high_low, mut highs] = [_mm512_setzero_si512(); 4];
        for (c, a) in a.iter().enumerate() {
            let codes = codes(c);
            let negative = _mm512_movepi8_mask(codes);
            let high_a = _mm512_mask_blend_epi8(negative, load(&a.plus[0]), load(&a.minus[0]));
            let low_a = _mm512_mask_blend_epi8(negative, load(&a.plus[1]), load(&a.minus[1]));
            let [low, high] = self.magnitudes::<SPLIT>(codes);
            highs = _mm512_dpbusd_epi32(highs, high, high_a);
            high_low = _mm512_dpbusd_epi32(high_low, high, low_a);
            lows = _mm512_dpbusd_epi32(lows, low, low_a);
            low_high = _mm512_dpbusd_epi32(low_high, low, high_a);
        }
        let mixed = _mm512_add_epi32(low_high, high_low);
        let upper = _mm512_add_epi32(mixed, _mm512_slli_epi32::<8>(highs));
        _mm512_add_epi32(lows, _mm512_slli_epi32::<8>(upper))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Simd;

    #[test]
    fn split_look_ups_find_the_same() {
        if !Simd::Avx512.is_available() {
            return;
        }
        let mut levels = Companded::EMPTY;
        for i in 0..128 {
            (levels.low[i], levels.high[i]) = ((i * 37 + 11) as u8, (i * 91 + 5) as u8);
        }
        let bytes = |register: __m512i| -> [u8; 64] {
            // SAFETY: both are 64 bytes without padding.
            unsafe { core::mem::transmute(register) }
        };
        for first in [0_u8, 64, 128, 192] {
            let codes: [u8; 64] = core::array::from_fn(|i| first + i as u8);
            // SAFETY: this machine has the instructions, by the check above.
            let [at_once, split] = unsafe {
                let (registers, codes) = (Registers::new(&levels), load(&codes));
                [registers.magnitudes::<false>(codes).map(bytes), registers.magnitudes::<true>(codes).map(bytes)]
            };
            let expected = [&levels.low, &levels.high].map(|table| codes.map(|code| table[usize::from(code & 127)]));
            assert_eq!([at_once, split], [expected, expected], "codes from {first}");
        }
    }
}
