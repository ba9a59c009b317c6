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
    activations::{ActivationRow, Activations, BLOCK},
    isa::Isa,
    levels,
    panel::{PANEL, Products, Tile, Words},
    row::{Matrix, Row},
};
use crate::grouped::with_bits;

/// NEON, which is part of the architecture.
#[derive(Clone, Copy)]
pub(super) struct Neon;

impl Isa for Neon {
    const SIMD: Simd = Simd::Neon;

    #[inline(always)]
    fn gemv(self, w: &Matrix<'_>, x: &Activations, first: usize, out: &mut [f32]) {
        // SAFETY: every machine of this architecture has NEON.
        unsafe { gemv(w, x, first, out) }
    }

    #[inline(always)]
    fn unpack(self, row: &Row<'_>, b: usize, words: &mut [i16; BLOCK]) {
        // SAFETY: as above.
        unsafe { unpack(row, b, words) }
    }

    #[inline(always)]
    fn add_products(self, w: &Words, units: &[f32; PANEL], x: &[Tile], y: &mut [Products]) {
        // SAFETY: as above.
        unsafe { panel::add_products(w, units, x, y) }
    }
}

#[target_feature(enable = "neon")]
fn gemv(w: &Matrix<'_>, x: &Activations, first: usize, out: &mut [f32]) {
    let rows = (first..).zip(out.chunks_exact_mut(x.rows()));
    match w {
        Matrix::Companded(w) => {
            let mut levels = levels::Companded::EMPTY;
            for (r, out) in rows {
                let row = w.row(r);
                levels::fill_inlined(&mut levels, row.curve);
                products(&Companded::new(&row, &levels), x, out);
            }
        }
        Matrix::Grouped(w) => with_bits!(w.width(), BITS => {
            for (r, out) in rows {
                products(&Groups::<BITS>::new(&w.row(r)), x, out);
            }
        }),
    }
}

/// The products of a row of weights with each row of `x`.
#[inline]
#[target_feature(enable = "neon")]
fn products(row: &impl Columns, x: &Activations, out: &mut [f32]) {
    for (j, y) in out.iter_mut().enumerate() {
        *y = product(row, x.row(j));
    }
}

#[target_feature(enable = "neon")]
fn unpack(row: &Row<'_>, b: usize, words: &mut [i16; BLOCK]) {
    match row {
        Row::Companded(row, levels) => unpack_of(&Companded::new(row, levels), b, words),
        Row::Grouped(row) => with_bits!(row.width, BITS => unpack_of(&Groups::<BITS>::new(row), b, words)),
    }
}

/// The product of two rows, of which the blocks are added in their order.
#[inline]
#[target_feature(enable = "neon")]
fn product(row: &impl Columns, a: ActivationRow<'_>) -> f32 {
    let (count, mut sum) = (row.count(), 0.0);
    for (b, (a, step)) in a.values.iter().zip(a.steps).enumerate() {
        let mut sums = [vdupq_n_s32(0); 4];
        for (i, a) in (b * (BLOCK / CHUNK)..count).zip(a.0.as_chunks::<CHUNK>().0) {
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
        let total = vaddvq_s32(vaddq_s32(vaddq_s32(sums[0], sums[1]), vaddq_s32(sums[2], sums[3])));
        sum += total as f32 * (step * row.unit(b));
    }
    sum
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
