//! Rows of 8-bit codes: the low bytes of 128 levels are two halves of four tables of sixteen, and so are the high bytes.

// Functions that must be inlined cannot enable AVX2 themselves, and are therefore unsafe throughout.
#![allow(unsafe_op_in_unsafe_fn)]

use core::arch::x86_64::*;

use super::columns::{CHUNK, Columns, load_for_unpacking, look_up, signed};
use crate::kernel::{levels, row::CompandedRow};

/// A row, with a copy of its last columns padded with zeros, for where they are not a whole chunk.
pub(super) struct Companded<'a> {
    row: &'a CompandedRow<'a>,
    /// The low and the high bytes of its levels, as [`levels::differences`].
    differences: [[u8; 128]; 2],
    last: [u8; CHUNK],
}

impl<'a> Companded<'a> {
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn new(row: &'a CompandedRow<'a>, levels: &'a levels::Companded) -> Self {
        let (_, rest) = row.codes.as_chunks::<CHUNK>();
        let mut last = [0; CHUNK];
        last[..rest.len()].copy_from_slice(rest);
        let mut differences = [levels.low, levels.high];
        for table in &mut differences {
            levels::differences::<4>(table);
        }
        Self { row, differences, last }
    }
}

impl Columns for Companded<'_> {
    const CHUNK_BYTES: usize = CHUNK;

    #[inline(always)]
    fn codes(&self) -> *const u8 {
        self.row.codes.as_ptr()
    }

    #[inline(always)]
    fn unit(&self, _: usize) -> f32 {
        self.row.unit
    }

    #[inline(always)]
    fn count(&self) -> usize {
        self.row.codes.len().div_ceil(CHUNK)
    }

    #[inline(always)]
    unsafe fn words(&self, i: usize) -> [__m256i; 2] {
        let whole = i < self.row.codes.len() / CHUNK;
        let codes = load_for_unpacking(if whole { self.row.codes.as_ptr().add(i * CHUNK) } else { self.last.as_ptr() });
        let magnitudes = _mm256_and_si256(codes, _mm256_set1_epi8(0x7f));
        // Both tables are 128 bytes.
        let [low, high] = [&self.differences[0], &self.differences[1]];
        let (low, high) = (look_up::<4>(magnitudes, low.as_ptr()), look_up::<4>(magnitudes, high.as_ptr()));
        signed(low, high, codes)
    }
}
