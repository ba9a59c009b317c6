//! What rows of both forms share: 32 columns decoded at a time, by look-ups of 64 bytes.

use core::arch::aarch64::*;

/// Columns that are decoded together, to four vectors of words.
pub(super) const SOME: usize = 32;

/// A row, some columns at a time.
pub(super) trait Columns {
    /// How many times so many columns there are, the last perhaps not whole.
    fn count(&self) -> usize;

    /// The weights of columns 32·i to 32·(i + 1); beyond the row's end whatever its filling stands for.
    ///
    /// # Safety
    /// There are so many.
    unsafe fn words(&self, i: usize) -> [int16x8_t; 4];
}

/// One byte for each of 16 codes, from `n` times 64, sixteen of which lie together every `stride` bytes.
///
/// # Safety
/// They all lie within what `tables` points to.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn look_up(codes: uint8x16_t, n: u8, tables: *const u8, stride: usize) -> uint8x16_t {
    let mut bytes = vdupq_n_u8(0);
    for i in 0..n {
        // SAFETY: the caller's.
        let four = unsafe {
            let table = |t: usize| vld1q_u8(tables.add((4 * usize::from(i) + t) * stride));
            uint8x16x4_t(table(0), table(1), table(2), table(3))
        };
        // A code beyond these 64 leaves what there is.
        bytes = vqtbx4q_u8(bytes, four, vsubq_u8(codes, vdupq_n_u8(64 * i)));
    }
    bytes
}

/// Words of their low and high bytes.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn words(low: uint8x16_t, high: uint8x16_t) -> [int16x8_t; 2] {
    [vreinterpretq_s16_u8(vzip1q_u8(low, high)), vreinterpretq_s16_u8(vzip2q_u8(low, high))]
}
