//! The steps of the integer product without intrinsics: what the other instruction sets must agree with to the bit.

use qins_codec::Code;

use super::{
    Simd,
    activations::{ActivationRow, BLOCK},
    isa::Isa,
    panel::{PANEL, Panel, Words},
    row::{CompandedRow, GroupedRow, Row, Units},
};
use crate::{
    Layout,
    grouped::{unpack as unpack_codes, with_bits},
};

/// What every machine has.
#[derive(Clone, Copy)]
pub(super) struct Portable;

impl Isa for Portable {
    const SIMD: Simd = Simd::Portable;

    fn totals(self, row: &Row<'_>, a: ActivationRow<'_>, totals: &mut [i32]) {
        let mut words = [0; BLOCK];
        for ((b, total), a) in totals.iter_mut().enumerate().zip(a.values.as_chunks::<BLOCK>().0) {
            self.unpack(row, b, &mut words);
            *total = dot(&words, a);
        }
    }

    fn sum(self, totals: &[i32], steps: &[f32], units: Units<'_>) -> f32 {
        sum(totals, steps, units)
    }

    fn unpack(self, row: &Row<'_>, b: usize, words: &mut [i16; BLOCK]) {
        match row {
            Row::Companded(row) => companded(row, b, words),
            Row::Grouped(row) => with_bits!(row.width, BITS => grouped::<BITS>(row, b, words)),
        }
    }

    fn interleave(self, words: &Words, panel: &mut Panel) {
        interleave(words, panel);
    }

    fn panel_totals(self, panel: &Panel, x: &[i16], stride: usize, totals: &mut [[i32; PANEL]]) {
        for (x, totals) in x.chunks(stride).zip(totals) {
            *totals = [0; PANEL];
            for (pair, panel) in x.as_chunks::<2>().0.iter().zip(&panel.0) {
                for (total, w) in totals.iter_mut().zip(panel) {
                    *total += i32::from(w[0]) * i32::from(pair[0]) + i32::from(w[1]) * i32::from(pair[1]);
                }
            }
        }
    }
}

#[inline(always)]
fn dot(w: &[i16; BLOCK], a: &[i16; BLOCK]) -> i32 {
    w.iter().zip(a).map(|(w, a)| i32::from(*w) * i32::from(*a)).sum()
}

fn companded(row: &CompandedRow<'_>, b: usize, words: &mut [i16; BLOCK]) {
    for (word, code) in words.iter_mut().zip(&row.codes[b * BLOCK..]) {
        let code = Code::from_bits(*code);
        let q = usize::from(code.magnitude());
        let level = i16::from_le_bytes([row.levels.low[q], row.levels.high[q]]);
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

/// Σ total·(step·unit) over the blocks of a row, in their order.
#[inline(always)]
pub(super) fn sum(totals: &[i32], steps: &[f32], units: Units<'_>) -> f32 {
    const SOME: usize = 16;
    let mut sum = 0.0;
    for (i, (totals, steps)) in totals.chunks(SOME).zip(steps.chunks(SOME)).enumerate() {
        // The terms first, all at once: only their sum has an order.
        let mut terms = [0.0; SOME];
        let each = terms.iter_mut().zip(totals.iter().zip(steps));
        match units {
            Units::One(unit) => each.for_each(|(term, (total, step))| *term = *total as f32 * (step * unit)),
            Units::Each { unit, scales } => each
                .zip(&scales[i * SOME..])
                .for_each(|((term, (total, step)), scale)| *term = *total as f32 * (step * (scale * unit))),
        }
        for term in &terms[..totals.len()] {
            sum += term;
        }
    }
    sum
}

/// Pairs of columns of all rows together.
#[inline(always)]
pub(super) fn interleave(words: &Words, panel: &mut Panel) {
    for (r, row) in words.iter().enumerate() {
        for (pair, panel) in row.as_chunks::<2>().0.iter().zip(&mut panel.0) {
            panel[r] = *pair;
        }
    }
}
