//! Adding up lanes.

use core::arch::x86_64::*;

/// Blocks whose lanes are added together.
pub(super) const BLOCKS: usize = 4;

/// The sums of the lanes of four blocks.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn totals([b0, b1, b2, b3]: [__m256i; BLOCKS]) -> __m128i {
    // Adds pairs of lanes, then pairs of these: each 128-bit lane ends up with one lane per block.
    let pairs = [
        _mm256_add_epi32(_mm256_unpacklo_epi32(b0, b1), _mm256_unpackhi_epi32(b0, b1)),
        _mm256_add_epi32(_mm256_unpacklo_epi32(b2, b3), _mm256_unpackhi_epi32(b2, b3)),
    ];
    let fours = _mm256_add_epi32(_mm256_unpacklo_epi64(pairs[0], pairs[1]), _mm256_unpackhi_epi64(pairs[0], pairs[1]));
    _mm_add_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256::<1>(fours))
}
