//! Adding up lanes and blocks.

// Functions that must be inlined cannot enable AVX-512 themselves, and are therefore unsafe throughout.
#![allow(unsafe_op_in_unsafe_fn)]

use core::arch::x86_64::*;

use crate::kernel::activations::TOGETHER;

/// Blocks whose lanes are added together.
pub(super) const BLOCKS: usize = TOGETHER;

/// The lanes whose sums are those of four blocks.
pub(super) trait Lanes: Copy {
    /// All are zero.
    unsafe fn zero() -> Self;

    /// Of each block, one lane in each 128 bits.
    unsafe fn of_blocks(self) -> __m512i;
}

/// The lanes of each block.
impl Lanes for [__m512i; BLOCKS] {
    #[inline(always)]
    unsafe fn zero() -> Self {
        [_mm512_setzero_si512(); BLOCKS]
    }

    #[inline(always)]
    unsafe fn of_blocks(self) -> __m512i {
        add_lanes(self)
    }
}

/// Of each half of a block, one lane in each 128 bits: of two blocks, then of two others.
#[derive(Clone, Copy)]
pub(super) struct Halves(pub(super) [__m512i; 2]);

impl Lanes for Halves {
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([_mm512_setzero_si512(); 2])
    }

    #[inline(always)]
    unsafe fn of_blocks(self) -> __m512i {
        let [a, b] = [_mm512_castsi512_ps(self.0[0]), _mm512_castsi512_ps(self.0[1])];
        let [first, second] = [_mm512_shuffle_ps::<0b10_00_10_00>(a, b), _mm512_shuffle_ps::<0b11_01_11_01>(a, b)];
        _mm512_add_epi32(_mm512_castps_si512(first), _mm512_castps_si512(second))
    }
}

/// The sums of the four lanes in each 128 bits of four vectors, of one vector after the other.
#[inline(always)]
pub(super) unsafe fn add_lanes([v0, v1, v2, v3]: [__m512i; 4]) -> __m512i {
    let pairs = [
        _mm512_add_epi32(_mm512_unpacklo_epi32(v0, v1), _mm512_unpackhi_epi32(v0, v1)),
        _mm512_add_epi32(_mm512_unpacklo_epi32(v2, v3), _mm512_unpackhi_epi32(v2, v3)),
    ];
    _mm512_add_epi32(_mm512_unpacklo_epi64(pairs[0], pairs[1]), _mm512_unpackhi_epi64(pairs[0], pairs[1]))
}

/// The sums of four blocks.
#[inline(always)]
unsafe fn totals(lanes: impl Lanes) -> __m128i {
    let fours = lanes.of_blocks();
    let halves = _mm256_add_epi32(_mm512_castsi512_si256(fours), _mm512_extracti64x4_epi64::<1>(fours));
    _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves))
}

/// Four blocks that are still to be added to an output, in their order.
///
/// They are added after the next four have been multiplied, of whatever row: adding their lanes and then one block to the other
/// is a long chain of instructions, on which none would wait that is not needed sooner.
pub(super) struct Late<'a, L> {
    out: &'a mut [f32],
    lanes: L,
    scales: __m128,
    at: usize,
}

impl<'a, L: Lanes> Late<'a, L> {
    /// Nothing to be added yet to outputs that are zero.
    #[inline(always)]
    pub(super) unsafe fn new(out: &'a mut [f32]) -> Self {
        out.fill(0.0);
        Self { out, lanes: L::zero(), scales: _mm_setzero_ps(), at: 0 }
    }

    /// The number of outputs.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    /// Adds Σ total·(step·unit) to output `at` after what came before, for the first `n` of four blocks, of which the lanes are
    /// given; the lanes of others are zero.
    ///
    /// # Safety
    /// There is such an output.
    #[inline(always)]
    pub(super) unsafe fn add(&mut self, at: usize, lanes: L, [steps, units]: [__m128; 2], n: usize) {
        self.finish();
        // A unit may be infinite, which times zero would be a NaN.
        (self.lanes, self.scales, self.at) = (lanes, _mm_maskz_mul_ps(mask(n) as u8, steps, units), at);
    }

    /// Adds what is still to be added.
    ///
    /// # Safety
    /// There is an output.
    #[inline(always)]
    pub(super) unsafe fn finish(&mut self) {
        let terms = _mm_mul_ps(_mm_cvtepi32_ps(totals(self.lanes)), self.scales);
        // Zeros change nothing: a sum is never −0, as it starts at +0.
        // Unchecked, since the compiler would move the products of the next blocks after the check, away from their loads.
        let out = self.out.get_unchecked_mut(self.at);
        let sum = _mm_add_ss(_mm_set_ss(*out), terms);
        let sum = _mm_add_ss(sum, _mm_movehdup_ps(terms));
        let sum = _mm_add_ss(sum, _mm_movehl_ps(terms, terms));
        *out = _mm_cvtss_f32(_mm_add_ss(sum, _mm_shuffle_ps::<3>(terms, terms)));
    }
}

/// The first `n` numbers at `from`, and zeros.
///
/// # Safety
/// `n` numbers can be read, four at most.
#[inline(always)]
pub(super) unsafe fn first(from: *const f32, n: usize) -> __m128 {
    _mm_maskz_loadu_ps(mask(n) as u8, from)
}

/// The lowest `n` bits, 16 at most.
#[inline(always)]
pub(super) const fn mask(n: usize) -> u16 {
    if n < 16 { (1 << n) - 1 } else { u16::MAX }
}

/// A register of constants.
#[inline(always)]
pub(super) unsafe fn load<T>(all: &T) -> __m512i {
    const { assert!(size_of::<T>() == 64) };
    _mm512_loadu_si512(core::ptr::from_ref(all).cast())
}
