//! The integer product in AVX2. Levels are looked up sixteen at a time, low and high bytes apart.

#![allow(unsafe_code)]

mod bytes;
mod columns;
mod companded;
mod groups;
mod lanes;
mod panel;

use core::arch::x86_64::*;

use self::{
    bytes::{Bytes, Words},
    columns::{CHUNK, Columns},
    companded::Companded,
    groups::Groups,
};
use super::{
    Simd,
    activations::{ActivationRow, Activations, BLOCK},
    isa::Isa,
    levels,
    panel::{self as panels, PANEL, Products, Tile},
    prefetch,
    row::{Matrix, Row},
};
use crate::grouped::with_bits;

/// AVX2, and AVX-VNNI if `VNNI`, on a machine that has it.
#[derive(Clone, Copy)]
pub(super) struct Avx2<const VNNI: bool>(());

impl<const VNNI: bool> Avx2<VNNI> {
    /// # Panics
    /// When this machine does not have it.
    pub(super) fn new() -> Self {
        assert!(Self::SIMD.is_available(), "this machine has no {}", Self::SIMD);
        Self(())
    }
}

impl<const VNNI: bool> Isa for Avx2<VNNI> {
    const SIMD: Simd = if VNNI { Simd::AvxVnni } else { Simd::Avx2 };

    fn arrange(self, w: &Matrix<'_>, x: &mut Activations) {
        if w.has_byte_levels() {
            x.pair(Self::SIMD, VNNI);
        }
    }

    #[inline(always)]
    fn gemv(self, w: &Matrix<'_>, x: &Activations, first: usize, out: &mut [f32]) {
        // SAFETY: a value of this type exists only on a machine that has AVX2, and AVX-VNNI if `VNNI`.
        unsafe { gemv::<VNNI>(w, x, first, out) }
    }

    #[inline(always)]
    fn unpack(self, row: &Row<'_>, b: usize, words: &mut [i16; BLOCK]) {
        // SAFETY: as above.
        unsafe { unpack(row, b, words) }
    }

    #[inline(always)]
    fn add_products(self, w: &panels::Words, units: &[f32; PANEL], x: &[Tile], y: &mut [Products]) {
        // SAFETY: as above.
        unsafe {
            if VNNI {
                panel::add_products_vnni(w, units, x, y);
            } else {
                panel::add_products(w, units, x, y);
            }
        }
    }
}

/// # Safety
/// If `VNNI`, the machine has AVX-VNNI.
#[target_feature(enable = "avx2")]
unsafe fn gemv<const VNNI: bool>(w: &Matrix<'_>, x: &Activations, first: usize, out: &mut [f32]) {
    match w {
        Matrix::Companded(w) => {
            let mut levels = levels::Companded::EMPTY;
            for (r, out) in (first..).zip(out.chunks_exact_mut(x.rows())) {
                let row = w.row(r);
                levels::fill_inlined(&mut levels, row.curve);
                products(&Companded::new(&row, &levels), x, out);
            }
        }
        Matrix::Grouped(w) => with_bits!(
            w.width(),
            // SAFETY: the caller's promise.
            byte_levels BITS => unsafe {
                if VNNI {
                    bytes::gemv::<Bytes, BITS>(w, x, first, out);
                } else {
                    bytes::gemv::<Words, BITS>(w, x, first, out);
                }
            },
            word_levels BITS => for (r, out) in (first..).zip(out.chunks_exact_mut(x.rows())) {
                let row = w.row(r);
                prefetch::parts(&row, prefetch::rows(row.packed));
                products(&Groups::<BITS>::new(&row), x, out);
            }
        ),
    }
}

/// The products of a row of weights with each row of `x`.
#[inline]
#[target_feature(enable = "avx2")]
fn products(row: &impl Columns, x: &Activations, out: &mut [f32]) {
    for (j, y) in out.iter_mut().enumerate() {
        *y = product(row, x.row(j));
    }
}

#[target_feature(enable = "avx2")]
fn unpack(row: &Row<'_>, b: usize, words: &mut [i16; BLOCK]) {
    match row {
        Row::Companded(row, levels) => unpack_of(&Companded::new(row, levels), b, words),
        Row::Grouped(row) => with_bits!(row.width, BITS => unpack_of(&Groups::<BITS>::new(row), b, words)),
    }
}

/// The product of two rows, of which the blocks are added in their order.
#[inline]
#[target_feature(enable = "avx2")]
fn product<C: Columns>(row: &C, a: ActivationRow<'_>) -> f32 {
    let (count, mut sum) = (row.count(), 0.0);
    for (b, (a, step)) in a.values.iter().zip(a.steps).enumerate() {
        let mut sums = [_mm256_setzero_si256(); 2];
        let first = b * (BLOCK / CHUNK);
        for line in 0..(C::CHUNK_BYTES * BLOCK / CHUNK).div_ceil(64) {
            prefetch::line(row.codes().wrapping_add(first * C::CHUNK_BYTES + 64 * line));
        }
        for (i, a) in (first..count).zip(a.0.as_chunks::<CHUNK>().0) {
            // SAFETY: there are `count`; `a` is two vectors of words.
            unsafe {
                let ([low, high], a) = (row.words(i), a.as_ptr().cast::<__m256i>());
                sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(low, _mm256_loadu_si256(a)));
                sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(high, _mm256_loadu_si256(a.add(1))));
            }
        }
        let total = lanes_added(_mm256_add_epi32(sums[0], sums[1]));
        sum += total as f32 * (step * row.unit(b));
    }
    sum
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
