//! The integer product in AVX2. Levels are looked up sixteen at a time, low and high bytes apart.

#![allow(unsafe_code)]

mod columns;
mod companded;
mod groups;
mod panel;

use core::arch::x86_64::*;

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

/// AVX2, on a machine that has it.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    /// # Panics
    /// When this machine does not have it.
    pub(super) fn new() -> Self {
        assert!(Simd::Avx2.is_available(), "this machine has no {}", Simd::Avx2);
        Self(())
    }
}

impl Isa for Avx2 {
    const SIMD: Simd = Simd::Avx2;

    #[inline(always)]
    fn totals(self, row: &Row<'_>, a: ActivationRow<'_>, totals: &mut [i32]) {
        // SAFETY: a value of this type exists only on a machine that has AVX2.
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

#[target_feature(enable = "avx2")]
fn row_totals(row: &Row<'_>, a: ActivationRow<'_>, totals: &mut [i32]) {
    let a = a.values.as_chunks::<BLOCK>().0;
    match row {
        Row::Companded(row) => totals_of(&Companded::new(row), a, totals),
        Row::Grouped(row) => with_bits!(row.width, BITS => totals_of(&Groups::<BITS>::new(row), a, totals)),
    }
}

#[target_feature(enable = "avx2")]
fn sum(totals: &[i32], steps: &[f32], scale: BlockScale<'_>) -> f32 {
    portable::sum(totals, steps, scale)
}

#[target_feature(enable = "avx2")]
fn unpack(row: &Row<'_>, b: usize, words: &mut [i16; BLOCK]) {
    match row {
        Row::Companded(row) => unpack_of(&Companded::new(row), b, words),
        Row::Grouped(row) => with_bits!(row.width, BITS => unpack_of(&Groups::<BITS>::new(row), b, words)),
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn totals_of(row: &impl Columns, a: &[[i16; BLOCK]], totals: &mut [i32]) {
    let count = row.count();
    for (b, (total, a)) in totals.iter_mut().zip(a).enumerate() {
        let mut sums = [_mm256_setzero_si256(); 2];
        let first = b * (BLOCK / CHUNK);
        for (i, a) in (first..count).zip(a.as_chunks::<CHUNK>().0) {
            // SAFETY: there are `count`; `a` is two vectors of words.
            unsafe {
                let ([low, high], a) = (row.words(i), a.as_ptr().cast::<__m256i>());
                sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(low, _mm256_loadu_si256(a)));
                sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(high, _mm256_loadu_si256(a.add(1))));
            }
        }
        *total = lanes_added(_mm256_add_epi32(sums[0], sums[1]));
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn unpack_of(row: &impl Columns, b: usize, words: &mut [i16; BLOCK]) {
    for (i, words) in (b * (BLOCK / CHUNK)..row.count()).zip(words.as_chunks_mut::<CHUNK>().0) {
        // SAFETY: there are `count`; `words` is two vectors.
        unsafe {
            let ([low, high], to) = (row.words(i), words.as_mut_ptr().cast::<__m256i>());
            _mm256_storeu_si256(to, low);
            _mm256_storeu_si256(to.add(1), high);
        }
    }
}

/// The sum of all lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn lanes_added(lanes: __m256i) -> i32 {
    let four = _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256::<1>(lanes));
    let two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
}
