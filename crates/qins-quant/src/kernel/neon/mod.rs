//! The integer product in NEON, which every 64-bit ARM has. Levels are looked up 64 at a time, low and high bytes apart.

#![allow(unsafe_code)]

mod columns;
mod companded;
mod groups;
mod panel;

use core::arch::aarch64::*;

use self::{
    columns::{CHUNK, Columns},
    companded::Companded,
    groups::Groups,
};
use super::{
    Simd,
    activations::{ActivationRow, BLOCK},
    isa::Isa,
    panel::{PANEL, Panel, Words},
    portable,
    row::{BlockScale, Row},
};
use crate::grouped::with_bits;

/// NEON, which is part of the architecture.
#[derive(Clone, Copy)]
pub(super) struct Neon;

impl Isa for Neon {
    const SIMD: Simd = Simd::Neon;

    #[inline(always)]
    fn totals(self, row: &Row<'_>, a: ActivationRow<'_>, totals: &mut [i32]) {
        // SAFETY: every machine of this architecture has NEON.
        unsafe { row_totals(row, a, totals) }
    }

    #[inline(always)]
    fn sum(self, totals: &[i32], steps: &[f32], scale: BlockScale<'_>) -> f32 {
        // SAFETY: as above.
        unsafe { sum(totals, steps, scale) }
    }

    #[inline(always)]
    fn unpack(self, row: &Row<'_>, b: usize, words: &mut [i16; BLOCK]) {
        // SAFETY: as above.
        unsafe { unpack(row, b, words) }
    }

    #[inline(always)]
    fn interleave(self, words: &Words, panel: &mut Panel) {
        // SAFETY: as above.
        unsafe { panel::interleave(words, panel) }
    }

    #[inline(always)]
    fn panel_totals(self, panel: &Panel, x: &[i16], stride: usize, totals: &mut [[i32; PANEL]]) {
        // SAFETY: as above.
        unsafe { panel::panel_totals(panel, x, stride, totals) }
    }
}

#[target_feature(enable = "neon")]
fn row_totals(row: &Row<'_>, a: ActivationRow<'_>, totals: &mut [i32]) {
    let a = a.values.as_chunks::<BLOCK>().0;
    match row {
        Row::Companded(row) => totals_of(&Companded::new(row), a, totals),
        Row::Grouped(row) => with_bits!(row.width, BITS => totals_of(&Groups::<BITS>::new(row), a, totals)),
    }
}

#[target_feature(enable = "neon")]
fn sum(totals: &[i32], steps: &[f32], scale: BlockScale<'_>) -> f32 {
    portable::sum(totals, steps, scale)
}

#[target_feature(enable = "neon")]
fn unpack(row: &Row<'_>, b: usize, words: &mut [i16; BLOCK]) {
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
        for (i, a) in (b * (BLOCK / CHUNK)..count).zip(a.as_chunks::<CHUNK>().0) {
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
    for (i, words) in (b * (BLOCK / CHUNK)..row.count()).zip(words.as_chunks_mut::<CHUNK>().0) {
        // SAFETY: there are `count`; `words` is four vectors.
        unsafe {
            for (v, w) in row.words(i).into_iter().enumerate() {
                vst1q_s16(words.as_mut_ptr().add(8 * v), w);
            }
        }
    }
}
