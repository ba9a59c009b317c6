//! Rows whose weights share a scale and a curve in groups of 32.

use core::arch::aarch64::*;

use super::columns::{CHUNK, Columns, look_up, words};
use crate::{Layout, Width, kernel::row::GroupedRow};

/// A row whose parts have been checked to have the right lengths.
pub(super) struct Groups<'a, const BITS: usize>(&'a GroupedRow<'a>);

impl<'a, const BITS: usize> Groups<'a, BITS> {
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn new(row: &'a GroupedRow<'a>) -> Self {
        const { assert!(Layout::GROUP == CHUNK) };
        let count = row.group_scale.len();
        assert!(row.packed.len() >= count * 4 * BITS && row.selector.len() >= count.div_ceil(4));
        assert!(row.levels.bytes.len() * 64 == 2 * Layout::CURVES * 16.max(1 << BITS));
        Self(row)
    }

    /// The weights of 16 codes.
    ///
    /// # Safety
    /// Each byte of `codes` is less than 2ᴮᴵᵀˢ.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn sixteen(&self, codes: uint8x16_t, curve: usize, scale: i16) -> [int16x8_t; 2] {
        let levels = self.0.levels;
        // SAFETY: there are 2ᴮᴵᵀˢ levels for each of four curves, and `signed` is 128 bytes. (The 16 bytes loaded for 3 bits are
        // eight levels, followed by eight that no code reaches.)
        unsafe {
            match Width::of::<BITS>() {
                Width::W3 | Width::W4 => {
                    scaled_bytes(vqtbl1q_s8(vld1q_s8(levels.signed.as_ptr().add(curve << BITS)), codes), scale)
                }
                Width::W5 => {
                    let table = levels.signed.as_ptr().add(curve << BITS);
                    scaled_bytes(vqtbl2q_s8(int8x16x2_t(vld1q_s8(table), vld1q_s8(table.add(16))), codes), scale)
                }
                Width::W6 | Width::W8 => {
                    let (tables, n) = (levels.bytes().add(2 * curve * (1 << BITS)), (1 << BITS >> 6) as u8);
                    let [low, high] = words(look_up(codes, n, tables), look_up(codes, n, tables.add(1 << BITS)));
                    // The rounded high half of twice the product. It saturates only where both factors are −2¹⁵, which
                    // a level is not.
                    [vqrdmulhq_n_s16(low, scale << 8), vqrdmulhq_n_s16(high, scale << 8)]
                }
            }
        }
    }
}

impl<const BITS: usize> Columns for Groups<'_, BITS> {
    #[inline(always)]
    fn unit(&self, b: usize) -> f32 {
        self.0.unit(b)
    }

    #[inline(always)]
    fn count(&self) -> usize {
        self.0.group_scale.len()
    }

    #[inline(always)]
    unsafe fn words(&self, g: usize) -> [int16x8_t; 4] {
        // SAFETY: `new` has checked that the parts contain group g.
        unsafe {
            let scale = i16::from(self.0.group_scale.get_unchecked(g).cast_signed());
            let curve = usize::from(self.0.selector.get_unchecked(g / 4) >> (2 * (g % 4)) & 3);
            let [first, second] = codes::<BITS>(self.0.packed.as_ptr().add(g * 4 * BITS));
            let ([a, b], [c, d]) = (self.sixteen(first, curve, scale), self.sixteen(second, curve, scale));
            [a, b, c, d]
        }
    }
}

/// Levels that are bytes, times the scale.
#[inline]
#[target_feature(enable = "neon")]
fn scaled_bytes(levels: int8x16_t, scale: i16) -> [int16x8_t; 2] {
    let (low, high) = (vmovl_s8(vget_low_s8(levels)), vmovl_high_s8(levels));
    [vmulq_n_s16(low, scale), vmulq_n_s16(high, scale)]
}

/// 32 codes.
///
/// # Safety
/// 4·BITS bytes can be read at `packed`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn codes<const BITS: usize>(packed: *const u8) -> [uint8x16_t; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        match Width::of::<BITS>() {
            Width::W3 => above::<2>(twos(packed), ones(packed.add(8))),
            Width::W4 => fours(packed),
            Width::W5 => above::<4>(fours(packed), ones(packed.add(16))),
            Width::W6 => above::<4>(fours(packed), twos(packed.add(16))),
            Width::W8 => [vld1q_u8(packed), vld1q_u8(packed.add(16))],
        }
    }
}

/// `high` above the `LOW` lowest bits of `low`.
#[inline]
#[target_feature(enable = "neon")]
fn above<const LOW: i32>(low: [uint8x16_t; 2], high: [uint8x16_t; 2]) -> [uint8x16_t; 2] {
    [vsliq_n_u8::<LOW>(low[0], high[0]), vsliq_n_u8::<LOW>(low[1], high[1])]
}

/// The codes of a plane of 4-bit fields, 16 bytes.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn fours(plane: *const u8) -> [uint8x16_t; 2] {
    // SAFETY: the caller's promise.
    let bytes = unsafe { vld1q_u8(plane) };
    [vandq_u8(bytes, vdupq_n_u8(15)), vshrq_n_u8::<4>(bytes)]
}

/// The codes of a plane of 2-bit fields, 8 bytes.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn twos(plane: *const u8) -> [uint8x16_t; 2] {
    // SAFETY: the caller's promise.
    let bytes = unsafe { vld1_u8(plane) };
    let bytes = vcombine_u8(bytes, bytes);
    let right = |by: [i8; 2]| vcombine_s8(vdup_n_s8(-by[0]), vdup_n_s8(-by[1]));
    let fields = |by| vandq_u8(vshlq_u8(bytes, right(by)), vdupq_n_u8(3));
    [fields([0, 2]), fields([4, 6])]
}

/// The codes of a plane of 1-bit fields, 4 bytes.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn ones(plane: *const u8) -> [uint8x16_t; 2] {
    // SAFETY: the caller's promise.
    let bytes = vreinterpretq_u8_u32(vdupq_n_u32(unsafe { plane.cast::<u32>().read_unaligned() }));
    const RIGHT: [i8; 16] = [0, 0, 0, 0, -1, -1, -1, -1, -2, -2, -2, -2, -3, -3, -3, -3];
    // SAFETY: `RIGHT` is 16 bytes.
    let right = unsafe { vld1q_s8(RIGHT.as_ptr()) };
    let fields = |right| vandq_u8(vshlq_u8(bytes, right), vdupq_n_u8(1));
    [fields(right), fields(vsubq_s8(right, vdupq_n_s8(4)))]
}
