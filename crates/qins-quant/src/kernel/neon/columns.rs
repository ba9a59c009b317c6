//! What rows of both forms share: 32 columns decoded at a time, by look-ups of 64 bytes.

use core::arch::aarch64::*;

/// Columns that are decoded together, into four vectors of words.
pub(super) const CHUNK: usize = 32;

/// A row of weights, decoded a [`CHUNK`] at a time.
pub(super) trait Columns {
    /// What an integer weight of 1 stands for in block `b`.
    fn unit(&self, b: usize) -> f32;

    /// The number of chunks of the row; the last one may be partial.
    fn count(&self) -> usize;

    /// The weights of columns 32·i to 32·(i + 1). Beyond the row's end they are arbitrary: activations there are zero.
    ///
    /// # Safety
    /// `i` is less than [`count`](Self::count).
    unsafe fn words(&self, i: usize) -> [int16x8_t; 4];
}

/// Looks up 16 codes in `n` times 64 bytes.
///
/// # Safety
/// So many can be read at `table`.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn look_up(codes: uint8x16_t, n: u8, table: *const u8) -> uint8x16_t {
    let mut bytes = vdupq_n_u8(0);
    for i in 0..n {
        // SAFETY: the caller's promise.
        let four = unsafe {
            let sixteen = |t: usize| vld1q_u8(table.add(16 * (4 * usize::from(i) + t)));
            uint8x16x4_t(sixteen(0), sixteen(1), sixteen(2), sixteen(3))
        };
        // A code outside of these 64 leaves its byte unchanged.
        bytes = vqtbx4q_u8(bytes, four, vsubq_u8(codes, vdupq_n_u8(64 * i)));
    }
    bytes
}

/// Words from their low and high bytes.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn words(low: uint8x16_t, high: uint8x16_t) -> [int16x8_t; 2] {
    [vreinterpretq_s16_u8(vzip1q_u8(low, high)), vreinterpretq_s16_u8(vzip2q_u8(low, high))]
}
