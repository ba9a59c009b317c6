//! Rows of 8-bit codes: 128 levels are two look-ups of each half of their words.

use core::arch::aarch64::*;

use super::columns::{Columns, SOME, look_up, words};
use crate::kernel::row::CompandedRow;

/// A row, and its last columns where they are no whole 32, filled up with zeros.
pub(super) struct Companded<'a> {
    row: &'a CompandedRow<'a>,
    last: [u8; SOME],
}

impl<'a> Companded<'a> {
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn new(row: &'a CompandedRow<'a>) -> Self {
        let (_, rest) = row.codes.as_chunks::<SOME>();
        let mut last = [0; SOME];
        last[..rest.len()].copy_from_slice(rest);
        Self { row, last }
    }

    /// The weights of 16 codes.
    ///
    /// # Safety
    /// There are 16 at `codes`.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn sixteen(&self, codes: *const u8) -> [int16x8_t; 2] {
        // SAFETY: the caller's; both tables are 128 bytes.
        unsafe {
            let codes = vld1q_u8(codes);
            let magnitudes = vandq_u8(codes, vdupq_n_u8(0x7f));
            let low = look_up(magnitudes, 2, self.row.levels.low.as_ptr(), 16);
            let high = look_up(magnitudes, 2, self.row.levels.high.as_ptr(), 16);
            let negative = vreinterpretq_u8_s8(vshrq_n_s8::<7>(vreinterpretq_s8_u8(codes)));
            let ([first, second], [n1, n2]) = (words(low, high), words(negative, negative));
            [vsubq_s16(veorq_s16(first, n1), n1), vsubq_s16(veorq_s16(second, n2), n2)]
        }
    }
}

impl Columns for Companded<'_> {
    #[inline(always)]
    fn count(&self) -> usize {
        self.row.codes.len().div_ceil(SOME)
    }

    #[inline(always)]
    unsafe fn words(&self, i: usize) -> [int16x8_t; 4] {
        // SAFETY: there are 32 codes.
        unsafe {
            let whole = i < self.row.codes.len() / SOME;
            let codes = if whole { self.row.codes.as_ptr().add(i * SOME) } else { self.last.as_ptr() };
            let ([a, b], [c, d]) = (self.sixteen(codes), self.sixteen(codes.add(16)));
            [a, b, c, d]
        }
    }
}
