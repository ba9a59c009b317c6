//! Rows of 8-bit codes: 128 levels are eight tables of each half of their words.

// Functions that must be inlined cannot enable AVX2 themselves, and are therefore unsafe throughout.
#![allow(unsafe_op_in_unsafe_fn)]

use core::arch::x86_64::*;

use super::columns::{Columns, SOME, for_pairing, look_up, signed};
use crate::kernel::{
    row::CompandedRow,
    simd::{AHEAD, prefetch},
};

/// A row, and its last columns where they are no whole 32, filled up with zeros.
pub(super) struct Companded<'a> {
    row: &'a CompandedRow<'a>,
    last: [u8; SOME],
}

impl<'a> Companded<'a> {
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn new(row: &'a CompandedRow<'a>) -> Self {
        let (_, rest) = row.codes.as_chunks::<SOME>();
        let mut last = [0; SOME];
        last[..rest.len()].copy_from_slice(rest);
        Self { row, last }
    }
}

impl Columns for Companded<'_> {
    #[inline(always)]
    fn count(&self) -> usize {
        self.row.codes.len().div_ceil(SOME)
    }

    #[inline(always)]
    unsafe fn words(&self, i: usize) -> [__m256i; 2] {
        let whole = i < self.row.codes.len() / SOME;
        prefetch(self.row.codes.as_ptr().wrapping_add(i * SOME + AHEAD));
        let codes = for_pairing(if whole { self.row.codes.as_ptr().add(i * SOME) } else { self.last.as_ptr() });
        let magnitudes = _mm256_and_si256(codes, _mm256_set1_epi8(0x7f));
        // Both tables are 128 bytes.
        let low = look_up::<8>(magnitudes, self.row.levels.low.as_ptr(), 16);
        let high = look_up::<8>(magnitudes, self.row.levels.high.as_ptr(), 16);
        signed(low, high, codes)
    }
}
