//! The steps of the integer product in NEON, which every 64-bit ARM has. Levels are looked up 64 at a time, low and high
//! bytes apart.

#![allow(unsafe_code)]

mod companded;
mod groups;
mod panel;

use core::arch::aarch64::*;

use self::{companded::Companded, groups::Groups};
use super::{
    activations::{ActivationRow, BLOCK},
    portable,
    row::{Row, Units},
};
use crate::grouped::with_bits;
pub(super) use panel::{interleave, panel_totals};

/// Columns that are decoded together, to four vectors of words.
const SOME: usize = 32;

/// A row, some columns at a time.
trait Columns {
    /// How many times so many columns there are, the last perhaps not whole.
    fn count(&self) -> usize;

    /// The weights of columns 32·i to 32·(i + 1); beyond the row's end whatever its filling stands for.
    ///
    /// # Safety
    /// There are so many.
    unsafe fn words(&self, i: usize) -> [int16x8_t; 4];
}

/// Σ w·a of each block.
#[target_feature(enable = "neon")]
pub(super) fn totals(row: &Row<'_>, a: ActivationRow<'_>, totals: &mut [i32]) {
    let a = a.values.as_chunks::<BLOCK>().0;
    match row {
        Row::Companded(row) => totals_of(&Companded::new(row), a, totals),
        Row::Grouped(row) => with_bits!(row.width, BITS => totals_of(&Groups::<BITS>::new(row), a, totals)),
    }
}

/// Σ total·(step·unit) over the blocks of a row, in their order.
#[target_feature(enable = "neon")]
pub(super) fn sum(totals: &[i32], steps: &[f32], units: Units<'_>) -> f32 {
    portable::sum(totals, steps, units)
}

/// The weights of block `b`; beyond the row's end whatever its filling stands for.
#[target_feature(enable = "neon")]
pub(super) fn unpack(row: &Row<'_>, b: usize, words: &mut [i16; BLOCK]) {
    match row {
        Row::Companded(row) => unpack_of(&Companded::new(row), b, words),
        Row::Grouped(row) => with_bits!(row.width, BITS => unpack_of(&Groups::<BITS>::new(row), b, words)),
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn totals_of(row: &impl Columns, a: &[[i16; BLOCK]], totals: &mut [i32]) {
    let count = row.count();
    for (b, (total, a)) in totals.iter_mut().zip(a).enumerate() {
        let mut sums = [vdupq_n_s32(0); 4];
        for (i, a) in (b * (BLOCK / SOME)..count).zip(a.as_chunks::<SOME>().0) {
            // SAFETY: there are `count`; `a` is four vectors of words.
            unsafe {
                let words = row.words(i);
                for (v, w) in words.into_iter().enumerate() {
                    let a = vld1q_s16(a.as_ptr().add(8 * v));
                    sums[v] = vmlal_s16(sums[v], vget_low_s16(w), vget_low_s16(a));
                    sums[v] = vmlal_high_s16(sums[v], w, a);
                }
            }
        }
        *total = vaddvq_s32(vaddq_s32(vaddq_s32(sums[0], sums[1]), vaddq_s32(sums[2], sums[3])));
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn unpack_of(row: &impl Columns, b: usize, words: &mut [i16; BLOCK]) {
    for (i, words) in (b * (BLOCK / SOME)..row.count()).zip(words.as_chunks_mut::<SOME>().0) {
        // SAFETY: there are so many; `words` is four vectors.
        unsafe {
            for (v, w) in row.words(i).into_iter().enumerate() {
                vst1q_s16(words.as_mut_ptr().add(8 * v), w);
            }
        }
    }
}

/// One byte for each of 16 codes, from `n` times 64, sixteen of which lie together every `stride` bytes.
///
/// # Safety
/// They all lie within what `tables` points to.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn look_up(codes: uint8x16_t, n: u8, tables: *const u8, stride: usize) -> uint8x16_t {
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
fn words(low: uint8x16_t, high: uint8x16_t) -> [int16x8_t; 2] {
    [vreinterpretq_s16_u8(vzip1q_u8(low, high)), vreinterpretq_s16_u8(vzip2q_u8(low, high))]
}
