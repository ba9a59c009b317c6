//! Adding up lanes and blocks.

// Functions that must be inlined cannot enable AVX-512 themselves, and are therefore unsafe throughout.
#![allow(unsafe_op_in_unsafe_fn)]

use core::arch::x86_64::*;

/// Blocks whose lanes are added together.
pub(super) const BLOCKS: usize = 4;

/// The sums of the lanes of four blocks.
#[inline(always)]
pub(super) unsafe fn totals([b0, b1, b2, b3]: [__m512i; BLOCKS]) -> __m128i {
    // Adds pairs of lanes, then pairs of these: each 128-bit lane ends up with one lane per block.
    let pairs = [
        _mm512_add_epi32(_mm512_unpacklo_epi32(b0, b1), _mm512_unpackhi_epi32(b0, b1)),
        _mm512_add_epi32(_mm512_unpacklo_epi32(b2, b3), _mm512_unpackhi_epi32(b2, b3)),
    ];
    let fours = _mm512_add_epi32(_mm512_unpacklo_epi64(pairs[0], pairs[1]), _mm512_unpackhi_epi64(pairs[0], pairs[1]));
    let halves = _mm256_add_epi32(_mm512_castsi512_si256(fours), _mm512_extracti64x4_epi64::<1>(fours));
    _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves))
}

/// The first `n` numbers at `from`, and zeros.
///
/// # Safety
/// `n` numbers can be read, four at most.
#[inline(always)]
pub(super) unsafe fn first(from: *const f32, n: usize) -> __m128 {
    _mm_maskz_loadu_ps(mask(n) as u8, from)
}

/// `sum` plus total·(step·unit) of `n` blocks, in their order.
#[inline(always)]
pub(super) unsafe fn added(sum: f32, totals: __m128i, steps: __m128, units: __m128, n: usize) -> f32 {
    let terms = _mm_maskz_mul_ps(mask(n) as u8, _mm_cvtepi32_ps(totals), _mm_mul_ps(steps, units));
    // Zeros beyond them change nothing: the sum is never −0, as it starts at +0.
    let sum = _mm_add_ss(_mm_set_ss(sum), terms);
    let sum = _mm_add_ss(sum, _mm_movehdup_ps(terms));
    let sum = _mm_add_ss(sum, _mm_movehl_ps(terms, terms));
    _mm_cvtss_f32(_mm_add_ss(sum, _mm_shuffle_ps::<3>(terms, terms)))
}

/// The lowest `n` bits, 16 at most.
#[inline(always)]
pub(super) fn mask(n: usize) -> u16 {
    ((1_u32 << n.min(16)) - 1) as u16
}

/// A register of constants.
#[inline(always)]
pub(super) unsafe fn load<T>(all: &T) -> __m512i {
    const { assert!(size_of::<T>() == 64) };
    _mm512_loadu_si512(core::ptr::from_ref(all).cast())
}
