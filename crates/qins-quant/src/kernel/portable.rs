//! The integer product without intrinsics: the other instruction sets must agree with it to the bit.

use qins_codec::Code;

use super::{
    Simd,
    activations::{ActivationRow, Activations, BLOCK},
    isa::Isa,
    levels::Companded,
    panel::{PANEL, Products, TILE, Tile, Words},
    row::{CompandedRow, GroupedRow, Matrix, Row},
};
use crate::{
    Layout,
    grouped::{unpack as unpack_codes, with_bits},
};

/// The instruction set that every machine has.
#[derive(Clone, Copy)]
pub(super) struct Portable;

impl Isa for Portable {
    const SIMD: Simd = Simd::Portable;

    fn gemv(self, w: &Matrix<'_>, x: &Activations, first: usize, out: &mut [f32]) {
        let mut levels = Companded::EMPTY;
        for (r, out) in (first..).zip(out.chunks_exact_mut(x.rows())) {
            let row = w.row(Self::SIMD, r, &mut levels);
            for (j, y) in out.iter_mut().enumerate() {
                *y = product(&row, x.row(j));
            }
        }
    }

    fn unpack(self, row: &Row<'_>, b: usize, words: &mut [i16; BLOCK]) {
        unpack(row, b, words);
    }

    fn add_products(self, w: &Words, units: &[f32; PANEL], x: &[Tile], y: &mut [Products]) {
        for (x, y) in x.iter().zip(y) {
            for ((w, unit), y) in w.iter().zip(units).zip(y) {
                let mut totals = [0; TILE];
                for (w, pairs) in w.as_chunks::<2>().0.iter().zip(&x.pairs) {
                    for (total, a) in totals.iter_mut().zip(pairs) {
                        *total += i32::from(w[0]) * i32::from(a[0]) + i32::from(w[1]) * i32::from(a[1]);
                    }
                }
                for ((y, total), step) in y.iter_mut().zip(totals).zip(x.steps) {
                    *y += total as f32 * (step * unit);
                }
            }
        }
    }
}

/// The product of two rows, of which the blocks are added in their order.
fn product(row: &Row<'_>, a: ActivationRow<'_>) -> f32 {
    let (mut words, mut sum) = ([0; BLOCK], 0.0);
    for (b, (a, step)) in a.values.iter().zip(a.steps).enumerate() {
        unpack(row, b, &mut words);
        sum += dot(&words, &a.0) as f32 * (step * row.unit(b));
    }
    sum
}

fn unpack(row: &Row<'_>, b: usize, words: &mut [i16; BLOCK]) {
    match row {
        Row::Companded(row, levels) => companded(row, levels, b, words),
        Row::Grouped(row) => with_bits!(row.width, BITS => grouped::<BITS>(row, b, words)),
    }
}

#[inline(always)]
fn dot(w: &[i16; BLOCK], a: &[i16; BLOCK]) -> i32 {
    w.iter().zip(a).map(|(w, a)| i32::from(*w) * i32::from(*a)).sum()
}

fn companded(row: &CompandedRow<'_>, levels: &Companded, b: usize, words: &mut [i16; BLOCK]) {
    for (word, code) in words.iter_mut().zip(&row.codes[b * BLOCK..]) {
        let code = Code::from_bits(*code);
        let q = usize::from(code.magnitude());
        let level = i16::from_le_bytes([levels.low[q], levels.high[q]]);
        *word = if code.sign() < 0.0 { -level } else { level };
    }
}

#[inline(always)]
fn grouped<const BITS: usize>(row: &GroupedRow<'_>, b: usize, words: &mut [i16; BLOCK]) {
    let first = b * Layout::SUPER;
    let groups = row.packed.chunks_exact(4 * BITS).zip(row.group_scale).enumerate().skip(first);
    for ((g, (packed, scale)), words) in groups.zip(words.as_chunks_mut::<{ Layout::GROUP }>().0) {
        let scale = i32::from(scale.cast_signed()) * 256;
        let curve = usize::from(row.selector[g / 4] >> (2 * (g % 4)) & 3);
        let levels = &row.levels.words[curve * row.levels.entries..][..row.levels.entries];
        for (word, code) in words.iter_mut().zip(unpack_codes(packed, BITS)) {
            *word = ((i32::from(levels[usize::from(code)]) * scale + (1 << 14)) >> 15) as i16;
        }
    }
}
