//! Rows of 8-bit codes: 128 levels are two look-ups of low bytes and two of high bytes.

use core::arch::aarch64::*;

use super::columns::{CHUNK, Columns, look_up, words};
use crate::kernel::{levels, row::CompandedRow};

/// A row, with a copy of its last columns padded with zeros, for where they are not a whole chunk.
pub(super) struct Companded<'a> {
    row: &'a CompandedRow<'a>,
    levels: &'a levels::Companded,
    last: [u8; CHUNK],
}

impl<'a> Companded<'a> {
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn new(row: &'a CompandedRow<'a>, levels: &'a levels::Companded) -> Self {
        let (_, rest) = row.codes.as_chunks::<CHUNK>();
        let mut last = [0; CHUNK];
        last[..rest.len()].copy_from_slice(rest);
        Self { row, levels, last }
    }

    /// The weights of 16 codes.
    ///
    /// # Safety
    /// 16 bytes can be read at `codes`.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn sixteen(&self, codes: *const u8) -> [int16x8_t; 2] {
        // SAFETY: the caller's promise; both tables are 128 bytes.
        unsafe {
            let codes = vld1q_u8(codes);
            let magnitudes = vandq_u8(codes, vdupq_n_u8(0x7f));
            let low = look_up(magnitudes, 2, self.levels.low.as_ptr());
            let high = look_up(magnitudes, 2, self.levels.high.as_ptr());
            let negative = vreinterpretq_u8_s8(vshrq_n_s8::<7>(vreinterpretq_s8_u8(codes)));
            let ([first, second], [n1, n2]) = (words(low, high), words(negative, negative));
            [vsubq_s16(veorq_s16(first, n1), n1), vsubq_s16(veorq_s16(second, n2), n2)]
        }
    }
}

impl Columns for Companded<'_> {
    #[inline(always)]
    fn unit(&self, _: usize) -> f32 {
        self.row.unit
    }

    #[inline(always)]
    fn count(&self) -> usize {
        self.row.codes.len().div_ceil(CHUNK)
    }

    #[inline(always)]
    unsafe fn words(&self, i: usize) -> [int16x8_t; 4] {
        // SAFETY: the row has 32 codes there, or else `last` has them.
        unsafe {
            let whole = i < self.row.codes.len() / CHUNK;
            let codes = if whole { self.row.codes.as_ptr().add(i * CHUNK) } else { self.last.as_ptr() };
            let ([a, b], [c, d]) = (self.sixteen(codes), self.sixteen(codes.add(16)));
            [a, b, c, d]
        }
    }
}
