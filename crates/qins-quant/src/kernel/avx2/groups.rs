//! Rows whose weights share a scale and a curve in groups of 32.

// Functions that must be inlined cannot enable AVX2 themselves, and are therefore unsafe throughout.
#![allow(unsafe_op_in_unsafe_fn)]

use core::arch::x86_64::*;

use super::columns::{CHUNK, Columns, load_for_unpacking, look_up, shuffle, signed};
use crate::{Layout, Width, kernel::row::GroupedRow};

/// A row whose parts have been checked to have the right lengths.
pub(super) struct Groups<'a, const BITS: usize>(&'a GroupedRow<'a>);

impl<'a, const BITS: usize> Groups<'a, BITS> {
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn new(row: &'a GroupedRow<'a>) -> Self {
        const { assert!(Layout::GROUP == CHUNK) };
        let count = row.group_scale.len();
        assert!(row.packed.len() >= count * 4 * BITS && row.selector.len() >= count.div_ceil(4));
        let looked_up = if Width::of::<BITS>().has_byte_levels() { 0 } else { (2 * Layout::CURVES) << BITS };
        assert!(row.levels.differences.len() * 64 == looked_up);
        Self(row)
    }
}

impl<const BITS: usize> Columns for Groups<'_, BITS> {
    const CHUNK_BYTES: usize = 4 * BITS;

    #[inline(always)]
    fn codes(&self) -> *const u8 {
        self.0.packed.as_ptr()
    }

    #[inline(always)]
    fn unit(&self, b: usize) -> f32 {
        self.0.unit(b)
    }

    #[inline(always)]
    fn count(&self) -> usize {
        self.0.group_scale.len()
    }

    #[inline(always)]
    unsafe fn words(&self, g: usize) -> [__m256i; 2] {
        let packed = self.0.packed.as_ptr().add(g * 4 * BITS);
        let scale = _mm256_set1_epi16(i16::from(self.0.group_scale.get_unchecked(g).cast_signed()) << 8);
        let curve = usize::from(self.0.selector.get_unchecked(g / 4) >> (2 * (g % 4)) & 3);
        let levels = &self.0.levels;
        let codes = codes::<BITS>(packed);
        match Width::of::<BITS>() {
            // A table of 3 bits is eight levels, followed by eight that no code reaches.
            Width::W3 | Width::W4 => {
                scaled_bytes(shuffle(levels.signed.as_ptr().add(curve << BITS).cast(), codes), scale)
            }
            // Of one table each, halves are their own differences.
            Width::W5 => scaled_bytes(look_up::<1>(codes, levels.signed.as_ptr().add(curve << BITS).cast()), scale),
            Width::W6 => {
                let tables = levels.differences().add(2 * curve * (1 << BITS));
                let (low, high) = (look_up::<2>(codes, tables), look_up::<2>(codes, tables.add(64)));
                scaled_words([_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)], scale)
            }
            Width::W8 => {
                // Codes are unsigned, and 128 stands for zero. Each level below zero is the negative of one above, except the
                // first, which is −1 and has no counterpart: its magnitude is looked up as zero, whose level is zero.
                let codes = _mm256_xor_si256(codes, _mm256_set1_epi8(i8::MIN));
                let magnitudes = _mm256_abs_epi8(codes);
                let upper = levels.differences().add(2 * curve * (1 << BITS) + 128);
                let (low, high) = (look_up::<4>(magnitudes, upper), look_up::<4>(magnitudes, upper.add(256)));
                let first = _mm256_cmpgt_epi8(_mm256_setzero_si256(), magnitudes);
                let one = (-*levels.words.as_ptr().add(curve << BITS)).to_le_bytes().map(u8::cast_signed);
                let words = signed(
                    _mm256_or_si256(low, _mm256_and_si256(first, _mm256_set1_epi8(one[0]))),
                    _mm256_or_si256(high, _mm256_and_si256(first, _mm256_set1_epi8(one[1]))),
                    codes,
                );
                scaled_words(words, scale)
            }
        }
    }
}

/// Levels t that are bytes, times the scale s: ⌊(256·t)·(256·s)/2¹⁶⌋ = t·s.
#[inline(always)]
unsafe fn scaled_bytes(levels: __m256i, scale: __m256i) -> [__m256i; 2] {
    let zeros = _mm256_setzero_si256();
    [
        _mm256_mulhi_epi16(_mm256_unpacklo_epi8(zeros, levels), scale),
        _mm256_mulhi_epi16(_mm256_unpackhi_epi8(zeros, levels), scale),
    ]
}

/// Levels that are words, times the scale, rounded.
#[inline(always)]
unsafe fn scaled_words([low, high]: [__m256i; 2], scale: __m256i) -> [__m256i; 2] {
    [_mm256_mulhrs_epi16(low, scale), _mm256_mulhrs_epi16(high, scale)]
}

/// 32 codes in the order of [`load_for_unpacking`].
#[inline(always)]
unsafe fn codes<const BITS: usize>(packed: *const u8) -> __m256i {
    match Width::of::<BITS>() {
        Width::W3 => _mm256_or_si256(twos(packed), _mm256_slli_epi16::<2>(ones(packed.add(8)))),
        Width::W4 => nibbles(packed),
        Width::W5 => _mm256_or_si256(nibbles(packed), _mm256_slli_epi16::<4>(ones(packed.add(16)))),
        Width::W6 => _mm256_or_si256(nibbles(packed), _mm256_slli_epi16::<4>(twos(packed.add(16)))),
        Width::W8 => load_for_unpacking(packed),
    }
}

/// The codes of a plane of 4-bit fields, 16 bytes.
#[inline(always)]
unsafe fn nibbles(plane: *const u8) -> __m256i {
    let bytes = _mm256_castsi128_si256(_mm_loadu_si128(plane.cast()));
    let twice = _mm256_permute4x64_epi64::<0b01_01_00_00>(bytes);
    _mm256_and_si256(_mm256_srlv_epi64(twice, _mm256_setr_epi64x(0, 4, 0, 4)), _mm256_set1_epi8(15))
}

/// The codes of a plane of 2-bit fields, 8 bytes.
#[inline(always)]
unsafe fn twos(plane: *const u8) -> __m256i {
    let bytes = _mm256_set1_epi64x(plane.cast::<i64>().read_unaligned());
    _mm256_and_si256(_mm256_srlv_epi64(bytes, _mm256_setr_epi64x(0, 4, 2, 6)), _mm256_set1_epi8(3))
}

/// The codes of a plane of 1-bit fields, 4 bytes.
#[inline(always)]
unsafe fn ones(plane: *const u8) -> __m256i {
    let bytes = _mm256_set1_epi32(plane.cast::<i32>().read_unaligned());
    let places = _mm256_setr_epi32(0, 1, 4, 5, 2, 3, 6, 7);
    _mm256_and_si256(_mm256_srlv_epi32(bytes, places), _mm256_set1_epi8(1))
}
