//! The integer product in AVX-512. The 128 levels of a companded row are looked up in four registers, their low and their high bytes; of a
//! group whose levels are bytes, 64 or 128 levels are one look-up.

#![allow(unsafe_code)]

mod bytes;
mod companded;
mod curve;
mod groups;
mod indices;
mod lanes;
mod panel;
mod words;

use core::arch::x86_64::__cpuid;
use std::sync::OnceLock;

use super::{
    Simd,
    activations::{Activations, BLOCK},
    isa::Isa,
    panel::{PANEL, Products, Tile, Words},
    row::{Matrix, Row},
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

    fn arrange(self, w: &Matrix<'_>, x: &mut Activations) {
        match w {
            Matrix::Companded(_) => x.fill_signed(Self::SIMD),
            Matrix::Grouped(w) if w.width().has_byte_levels() => x.fill_bytes(Self::SIMD),
            Matrix::Grouped(_) => {}
        }
    }

    #[inline(always)]
    fn gemv(self, w: &Matrix<'_>, x: &Activations, first: usize, out: &mut [f32]) {
        // SAFETY: a value of this type exists only on a machine that has the parts of AVX-512 named by [`Simd::Avx512`].
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

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,avx512vnni")]
fn gemv(w: &Matrix<'_>, x: &Activations, first: usize, out: &mut [f32]) {
    match w {
        Matrix::Companded(w) if is_intel() => companded::gemv::<true>(w, x, first, out),
        Matrix::Companded(w) => companded::gemv::<false>(w, x, first, out),
        Matrix::Grouped(w) => with_bits!(
            w.width(),
            byte_levels BITS => bytes::gemv::<BITS>(w, x, first, out),
            word_levels BITS => words::gemv::<BITS>(w, x, first, out)
        ),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,avx512vnni")]
fn unpack(row: &Row<'_>, b: usize, words: &mut [i16; BLOCK]) {
    let (pairs, _) = words.as_chunks_mut::<32>();
    match row {
        Row::Companded(row, levels) => companded::unpack(row, levels, b, pairs),
        Row::Grouped(row) => with_bits!(
            row.width,
            byte_levels BITS => groups::unpack::<BITS>(row, b, pairs),
            word_levels BITS => words::unpack::<BITS>(row, b, pairs)
        ),
    }
}

/// Whether the processor is one of Intel's, where some instructions take longer than others that do the same.
fn is_intel() -> bool {
    static IS_INTEL: OnceLock<bool> = OnceLock::new();
    *IS_INTEL.get_or_init(|| {
        let vendor = __cpuid(0);
        [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
    })
}
