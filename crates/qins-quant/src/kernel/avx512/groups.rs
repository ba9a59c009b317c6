//! The weights of a block whose levels are bytes, in words.

// Functions that must be inlined cannot enable AVX-512 themselves, and are therefore unsafe throughout.
#![allow(unsafe_op_in_unsafe_fn)]

use core::arch::x86_64::*;

use crate::{Layout, Width, kernel::row::GroupedRow};

/// The weights of block `b`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,avx512vnni")]
pub(super) fn unpack<const BITS: usize>(row: &GroupedRow<'_>, b: usize, weights: &mut [[i16; 32]]) {
    let (first, count) = (b * Layout::SUPER, row.group_scale.len());
    assert!(row.packed.len() >= count * 4 * BITS && row.selector.len() >= count.div_ceil(4));
    assert!(row.levels.words.len() == Layout::CURVES * 16.max(1 << BITS));
    for (g, weights) in (first..count).zip(weights) {
        let scale = (u32::from(row.group_scale[g]) * 0x0100_0100).cast_signed();
        let curve = usize::from(row.selector[g / 4] >> (2 * (g % 4)) & 3);
        // SAFETY: the row has this group, and there are levels for each curve; `weights` is twice 16 words.
        unsafe {
            let packed = row.packed.as_ptr().add(g * 4 * BITS);
            let [low, high] = group::<BITS>(packed, row, curve, scale);
            _mm256_storeu_si256(weights.as_mut_ptr().cast(), low);
            _mm256_storeu_si256(weights.as_mut_ptr().cast::<__m256i>().add(1), high);
        }
    }
}

/// The weights of a group.
///
/// # Safety
/// 4·BITS bytes can be read at `packed`, and there are levels of the width for the curve.
#[inline(always)]
unsafe fn group<const BITS: usize>(packed: *const u8, row: &GroupedRow<'_>, curve: usize, scale: i32) -> [__m256i; 2] {
    let levels = row.levels.words.as_ptr().add(curve * 16.max(1 << BITS));
    match Width::of::<BITS>() {
        Width::W3 => {
            // The table has the eight levels twice, so the fourth bit of a code does not matter.
            let (low, high, levels) = (twos(packed), ones(packed.add(8)), scaled(levels, scale));
            let codes = [
                join::<3>(low[0], _mm256_slli_epi16::<2>(high[0])),
                join::<3>(low[1], _mm256_slli_epi16::<2>(high[1])),
            ];
            [_mm256_permutexvar_epi16(codes[0], levels), _mm256_permutexvar_epi16(codes[1], levels)]
        }
        Width::W4 => {
            let (codes, levels) = (fours(packed), scaled(levels, scale));
            [_mm256_permutexvar_epi16(codes[0], levels), _mm256_permutexvar_epi16(codes[1], levels)]
        }
        Width::W5 => {
            let (low, high) = (fours(packed), ones(packed.add(16)));
            let levels = [scaled(levels, scale), scaled(levels.add(16), scale)];
            let codes = [
                join::<15>(low[0], _mm256_slli_epi16::<4>(high[0])),
                join::<15>(low[1], _mm256_slli_epi16::<4>(high[1])),
            ];
            [
                _mm256_permutex2var_epi16(levels[0], codes[0], levels[1]),
                _mm256_permutex2var_epi16(levels[0], codes[1], levels[1]),
            ]
        }
        Width::W6 | Width::W8 => unreachable!("their levels are words"),
    }
}

/// 16 levels, times the scale.
#[inline(always)]
unsafe fn scaled(levels: *const i16, scale: i32) -> __m256i {
    _mm256_mulhrs_epi16(_mm256_loadu_si256(levels.cast()), _mm256_set1_epi32(scale))
}

// The fields of a plane of codes: each word has the field of its column in its lowest bits, and above it further bits of the
// same byte.

/// The fields of a plane of 4-bit fields, 16 bytes.
#[inline(always)]
unsafe fn fours(plane: *const u8) -> [__m256i; 2] {
    let words = _mm256_cvtepu8_epi16(_mm_loadu_si128(plane.cast()));
    [words, _mm256_srli_epi16::<4>(words)]
}

/// The fields of a plane of 2-bit fields, 8 bytes.
#[inline(always)]
unsafe fn twos(plane: *const u8) -> [__m256i; 2] {
    let words = _mm256_cvtepu8_epi16(_mm_set1_epi64x(plane.cast::<i64>().read_unaligned()));
    let places = _mm256_setr_epi64x(0, 0, 0x0002_0002_0002_0002, 0x0002_0002_0002_0002);
    let low = _mm256_srlv_epi16(words, places);
    [low, _mm256_srli_epi16::<4>(low)]
}

/// The fields of a plane of 1-bit fields, 4 bytes.
#[inline(always)]
unsafe fn ones(plane: *const u8) -> [__m256i; 2] {
    let words = _mm256_cvtepu8_epi16(_mm_set1_epi32(plane.cast::<i32>().read_unaligned()));
    let places = _mm256_setr_epi64x(0, 0x0001_0001_0001_0001, 0x0002_0002_0002_0002, 0x0003_0003_0003_0003);
    let low = _mm256_srlv_epi16(words, places);
    [low, _mm256_srli_epi16::<4>(low)]
}

/// `low` in the bits of the mask, `high` in the others.
#[inline(always)]
unsafe fn join<const MASK: i16>(low: __m256i, high: __m256i) -> __m256i {
    _mm256_ternarylogic_epi32::<0xe4>(low, high, _mm256_set1_epi16(MASK))
}
