//! The integer product in AVX-512. The 128 levels of a companded row are two look-ups in two registers each; of a group whose
//! levels are bytes, 64 or 128 levels are one.

#![allow(unsafe_code)]

mod bytes;
mod companded;
mod groups;
mod lanes;
mod panel;

use core::arch::x86_64::*;

use super::{
    Simd,
    activations::{ActivationRow, BLOCK},
    isa::Isa,
    panel::{PANEL, Panel, Words},
    row::{BlockScale, Row},
};
use crate::grouped::with_bits;

/// AVX-512, on a machine that has it.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

impl Avx512 {
    /// # Panics
    /// When this machine does not have it.
    pub(super) fn new() -> Self {
        assert!(Simd::Avx512.is_available(), "this machine has no {}", Simd::Avx512);
        Self(())
    }
}

impl Isa for Avx512 {
    const SIMD: Simd = Simd::Avx512;
    const READS_BYTES: bool = true;

    #[inline(always)]
    fn totals(self, row: &Row<'_>, a: ActivationRow<'_>, totals: &mut [i32]) {
        // SAFETY: a value of this type exists only on a machine that has the parts of AVX-512 named by [`Simd::Avx512`].
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

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn row_totals(row: &Row<'_>, a: ActivationRow<'_>, totals: &mut [i32]) {
    let bytes = a.bytes;
    let a = a.values.as_chunks::<BLOCK>().0;
    match row {
        Row::Companded(row) => companded::totals(row, a, totals),
        Row::Grouped(row) => with_bits!(
            row.width,
            byte_levels BITS => bytes::totals::<BITS>(row, bytes, totals),
            word_levels BITS => groups::totals::<BITS>(row, a, totals)
        ),
    }
}

/// Sixteen terms are computed at once, and then added one after the other.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn sum(totals: &[i32], steps: &[f32], scale: BlockScale<'_>) -> f32 {
    let blocks = totals.len();
    assert!(steps.len() == blocks);
    let (unit, scales) = match scale {
        BlockScale::Shared(unit) => (unit, None),
        BlockScale::PerBlock { unit, scales } => (unit, Some(&scales[..blocks])),
    };
    let mut sum = 0.0;
    for first in (0..blocks).step_by(16) {
        let n = (blocks - first).min(16);
        let mask = (u32::MAX >> (32 - n)) as u16;
        let mut terms = [0.0_f32; 16];
        // SAFETY: `n` elements of each slice are read, which it has; `terms` is sixteen elements.
        unsafe {
            let totals = _mm512_maskz_loadu_epi32(mask, totals.as_ptr().add(first));
            let steps = _mm512_maskz_loadu_ps(mask, steps.as_ptr().add(first));
            let mut scale = _mm512_set1_ps(unit);
            if let Some(scales) = scales {
                scale = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, scales.as_ptr().add(first)), scale);
            }
            let all = _mm512_mul_ps(_mm512_cvtepi32_ps(totals), _mm512_mul_ps(steps, scale));
            _mm512_storeu_ps(terms.as_mut_ptr(), all);
        }
        for term in &terms[..n] {
            sum += term;
        }
    }
    sum
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn unpack(row: &Row<'_>, b: usize, words: &mut [i16; BLOCK]) {
    let (pairs, _) = words.as_chunks_mut::<32>();
    match row {
        Row::Companded(row) => companded::unpack(row, b, pairs),
        Row::Grouped(row) => with_bits!(row.width, BITS => groups::unpack::<BITS>(row, b, pairs)),
    }
}
