//! Splitting vectors and adding up their lanes.

use core::arch::x86_64::*;

/// The sum of all lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn lanes_added(lanes: __m256i) -> i32 {
    let four = _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256::<1>(lanes));
    let two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
}

/// The two halves of a vector.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn halves_of(wide: __m512i) -> [__m256i; 2] {
    [_mm512_castsi512_si256(wide), _mm512_extracti64x4_epi64::<1>(wide)]
}
