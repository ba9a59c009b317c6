//! Rows of groups whose levels are bytes: a weight is a level times a scale, and the products of levels are summed in each
//! group before they are scaled. 64 levels of any of the curves are one look-up. Activations are two bytes, of 256 and of one.

// Helpers that must be inlined cannot name their instruction set, and are unsafe throughout for it.
#![allow(unsafe_op_in_unsafe_fn)]

use core::arch::x86_64::*;

use super::AHEAD;
use crate::{
    Layout,
    kernel::{activations::Bytes, row::GroupedRow},
};

/// Groups that are multiplied together: half a block.
const FOUR: usize = 4;

/// Σ w·a of each block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn totals<const BITS: usize>(row: &GroupedRow<'_>, a: &[Bytes], totals: &mut [i32]) {
    let count = row.group_scale.len();
    let (packed, selector, scale) = (row.packed.as_ptr(), row.selector.as_ptr(), row.group_scale.as_ptr());
    assert!(row.packed.len() >= count * 4 * BITS && row.selector.len() >= count.div_ceil(FOUR));
    assert!(a.len() == 2 * totals.len() && totals.len() == count.div_ceil(Layout::SUPER));
    let fours = a.as_chunks::<8>().0.len().min(count / (8 * FOUR));
    // SAFETY: the assertions above; every half that is read is one of four groups. Four totals are written at a time, and
    // a number of halves that fit.
    unsafe {
        let levels = Levels::new(&row.levels.signed);
        let half = |h: usize| {
            let packed = packed.add(h * FOUR * 4 * BITS);
            _mm_prefetch::<_MM_HINT_NTA>(packed.wrapping_add(AHEAD).cast());
            let scale = scale.add(h * FOUR).cast::<i32>().read_unaligned();
            lanes::<BITS>(&levels, packed, *selector.add(h), scale, a.get_unchecked(h))
        };
        let block = |b: usize| halves_added(_mm512_add_epi32(half(2 * b), half(2 * b + 1)));
        for i in 0..fours {
            let lanes = [block(4 * i), block(4 * i + 1), block(4 * i + 2), block(4 * i + 3)];
            let pairs = [_mm256_hadd_epi32(lanes[0], lanes[1]), _mm256_hadd_epi32(lanes[2], lanes[3])];
            let all = _mm256_hadd_epi32(pairs[0], pairs[1]);
            let sums = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256::<1>(all));
            _mm_storeu_si128(totals.as_mut_ptr().add(4 * i).cast(), sums);
        }
        for (b, total) in totals.iter_mut().enumerate().skip(4 * fours) {
            let mut sum = _mm512_setzero_si512();
            for (h, a) in (2 * b..count.div_ceil(FOUR)).zip(&a[2 * b..2 * b + 2]) {
                let groups = (count - h * FOUR).min(FOUR);
                let lanes = if groups == FOUR {
                    half(h)
                } else {
                    // What is beyond the row's end is nothing, under scales of zero.
                    let (mut codes, mut scales) = ([0_u8; 4 * 4 * 5], [0; FOUR]);
                    let bytes = groups * 4 * BITS;
                    codes[..bytes].copy_from_slice(&row.packed[h * FOUR * 4 * BITS..][..bytes]);
                    scales[..groups].copy_from_slice(&row.group_scale[h * FOUR..]);
                    lanes::<BITS>(&levels, codes.as_ptr(), *selector.add(h), i32::from_le_bytes(scales), a)
                };
                sum = _mm512_add_epi32(sum, lanes);
            }
            *total = super::sum(halves_added(sum));
        }
    }
}

#[inline(always)]
unsafe fn halves_added(lanes: __m512i) -> __m256i {
    _mm256_add_epi32(_mm512_castsi512_si256(lanes), _mm512_extracti64x4_epi64::<1>(lanes))
}

/// The levels of all curves, and 128 more: what is multiplied by signed bytes is without a sign.
struct Levels([__m512i; 2]);

impl Levels {
    #[inline(always)]
    unsafe fn new(levels: &[i8; 128]) -> Self {
        let (levels, sign) = (levels.as_ptr(), _mm512_set1_epi8(i8::MIN));
        let (low, high) = (_mm512_loadu_si512(levels.cast()), _mm512_loadu_si512(levels.add(64).cast()));
        Self([_mm512_xor_si512(low, sign), _mm512_xor_si512(high, sign)])
    }

    #[inline(always)]
    unsafe fn look_up<const BITS: usize>(&self, indices: __m512i) -> __m512i {
        if BITS == 5 {
            _mm512_permutex2var_epi8(self.0[0], indices, self.0[1])
        } else {
            _mm512_permutexvar_epi8(indices, self.0[0])
        }
    }
}

/// The lanes of Σ w·a of four groups: four lanes each.
///
/// # Safety
/// There are 16·BITS bytes at `packed`.
#[inline(always)]
unsafe fn lanes<const BITS: usize>(
    levels: &Levels,
    packed: *const u8,
    selector: u8,
    scales: i32,
    a: &Bytes,
) -> __m512i {
    // In each byte of a group, its curve right above where a code is.
    let places: [i64; 8] = const {
        let mut places = [0; 8];
        let mut i = 0;
        while i < 8 {
            // The selectors are in all bytes, so that turning all of them is turning one.
            places[i] = 0x0101_0101_0101_0101 * ((2 * (i as i64 / 2) + 8 - BITS as i64) % 8);
            i += 1;
        }
        places
    };
    let curves = _mm512_multishift_epi64_epi8(load(&places), _mm512_set1_epi8(selector.cast_signed()));
    let [first, second] = codes::<BITS>(packed, curves);
    let [first, second] = [levels.look_up::<BITS>(first), levels.look_up::<BITS>(second)];
    let mut high = _mm512_dpbusd_epi32(_mm512_setzero_si512(), first, load(&a.high[0]));
    let mut low = _mm512_dpbusd_epi32(load(&a.offset), first, load(&a.low[0]));
    high = _mm512_dpbusd_epi32(high, second, load(&a.high[1]));
    low = _mm512_dpbusd_epi32(low, second, load(&a.low[1]));
    let sums = _mm512_add_epi32(low, _mm512_slli_epi32::<8>(high));
    // The scale of each group to the top of its lanes, and down with its sign.
    const TOPS: [u32; 16] = {
        let mut tops = [0x0080_8080; 16];
        let mut i = 0;
        while i < 16 {
            tops[i] = 0x0080_8080 | (i as u32 / 4) << 24;
            i += 1;
        }
        tops
    };
    let scales = _mm512_srai_epi32::<24>(_mm512_shuffle_epi8(_mm512_set1_epi32(scales), load(&TOPS)));
    _mm512_mullo_epi32(sums, scales)
}

#[inline(always)]
unsafe fn load<T>(all: &T) -> __m512i {
    const { assert!(size_of::<T>() == 64) };
    _mm512_loadu_si512(core::ptr::from_ref(all).cast())
}

/// The indices of the levels of four groups, of the first 16 columns of each and of the others; above them, anything.
#[inline(always)]
unsafe fn codes<const BITS: usize>(packed: *const u8, curves: __m512i) -> [__m512i; 2] {
    match BITS {
        3 => {
            // Of each group two words of two bits and one of one bit a code.
            let all = _mm512_maskz_loadu_epi32(0xfff, packed.cast());
            let twos = _mm512_permutexvar_epi32(load(&[0, 1, 0, 1, 3, 4, 3, 4, 6, 7, 6, 7, 9, 10, 9, 10]), all);
            let ones = _mm512_permutexvar_epi32(load(&[2, 2, 2, 2, 5, 5, 5, 5, 8, 8, 8, 8, 11, 11, 11, 11]), all);
            // Bit q of the byte of a column of the first half, 4 + q of one of the second, is the third bit of its code.
            let first = select::<4>(_mm512_rolv_epi32(ones, _mm512_set4_epi32(31, 0, 1, 2)), curves);
            let second = select::<4>(_mm512_rolv_epi32(ones, _mm512_set4_epi32(27, 28, 29, 30)), curves);
            [
                select::<3>(_mm512_srlv_epi64(twos, load(&[0_i64, 2, 0, 2, 0, 2, 0, 2])), first),
                select::<3>(_mm512_srlv_epi64(twos, load(&[4_i64, 6, 4, 6, 4, 6, 4, 6])), second),
            ]
        }
        4 => {
            let all = _mm512_loadu_si512(packed.cast());
            [select::<15>(all, curves), select::<15>(_mm512_srli_epi16::<4>(all), curves)]
        }
        _ => {
            // Of each group four words of four bits and one of one bit a code; 20 words are two loads.
            let (low, high) = (_mm512_loadu_si512(packed.cast()), _mm512_loadu_si512(packed.add(16).cast()));
            let fours = load(&[0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 15, 28, 29, 30]);
            let ones = load(&[4, 4, 4, 4, 9, 9, 9, 9, 14, 14, 14, 14, 31, 31, 31, 31]);
            let fours = _mm512_permutex2var_epi32(low, fours, high);
            let ones = _mm512_permutex2var_epi32(low, ones, high);
            let first = select::<16>(_mm512_rolv_epi32(ones, _mm512_set4_epi32(1, 2, 3, 4)), curves);
            let second = select::<16>(_mm512_rolv_epi32(ones, _mm512_set4_epi32(29, 30, 31, 0)), curves);
            [select::<15>(fours, first), select::<15>(_mm512_srli_epi16::<4>(fours), second)]
        }
    }
}

/// `low` in the bits of the mask of each byte, `high` in the others.
#[inline(always)]
unsafe fn select<const MASK: i8>(low: __m512i, high: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0xe4>(low, high, _mm512_set1_epi8(MASK))
}
