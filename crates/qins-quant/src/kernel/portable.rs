//! The integer product without intrinsics: the other instruction sets must agree with it to the bit.

use qins_codec::Code;

use super::{
    Simd,
    activations::{ActivationRow, BLOCK},
    isa::Isa,
    panel::{PANEL, Panel, Words},
    row::{BlockScale, CompandedRow, GroupedRow, Row},
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

    fn totals(self, row: &Row<'_>, a: ActivationRow<'_>, totals: &mut [i32]) {
        let mut words = [0; BLOCK];
        for ((b, total), a) in totals.iter_mut().enumerate().zip(a.values.as_chunks::<BLOCK>().0) {
            self.unpack(row, b, &mut words);
            *total = dot(&words, a);
        }
    }

    fn sum(self, totals: &[i32], steps: &[f32], scale: BlockScale<'_>) -> f32 {
        sum(totals, steps, scale)
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

/// Σ total·(step·scale) over the blocks of a row, in their order.
#[inline(always)]
pub(super) fn sum(totals: &[i32], steps: &[f32], scale: BlockScale<'_>) -> f32 {
    const CHUNK: usize = 16;
    let mut sum = 0.0;
    for (i, (totals, steps)) in totals.chunks(CHUNK).zip(steps.chunks(CHUNK)).enumerate() {
        // The terms first, as vectors: only their sum has an order.
        let mut terms = [0.0; CHUNK];
        let blocks = terms.iter_mut().zip(totals.iter().zip(steps));
        match scale {
            BlockScale::Shared(unit) => blocks.for_each(|(term, (total, step))| *term = *total as f32 * (step * unit)),
            BlockScale::PerBlock { unit, scales } => blocks
                .zip(&scales[i * CHUNK..])
                .for_each(|((term, (total, step)), scale)| *term = *total as f32 * (step * (scale * unit))),
        }
        for term in &terms[..totals.len()] {
            sum += term;
        }
    }
    sum
}

/// Interleaves pairs of columns.
#[inline(always)]
pub(super) fn interleave(words: &Words, panel: &mut Panel) {
    for (r, row) in words.iter().enumerate() {
        for (pair, panel) in row.as_chunks::<2>().0.iter().zip(&mut panel.0) {
            panel[r] = *pair;
        }
    }
}
