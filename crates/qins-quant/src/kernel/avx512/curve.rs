//! The levels of a row of 8-bit codes, in registers.

use core::arch::x86_64::*;

use crate::kernel::levels::Curve;

/// What [`fill`](crate::kernel::levels::fill) computes: the low bytes of 128 levels, then their high bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,avx512vnni")]
pub(super) fn levels(curve: Curve) -> [__m512i; 4] {
    let [[low0, high0], [low1, high1]] = [sixty_four::<0>(curve), sixty_four::<64>(curve)];
    [low0, low1, high0, high1]
}

/// The low and high bytes of the levels of 64 magnitudes, starting at `FIRST`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,avx512vnni")]
fn sixty_four<const FIRST: usize>(curve: Curve) -> [__m512i; 2] {
    // Lane i of vector c has magnitude 4·i + c, so that the bytes of the four vectors lie side by side.
    let [c0, c1, c2, c3] = [0, 1, 2, 3].map(|c| {
        let lane = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60);
        let q = _mm512_cvtepi32_ps(_mm512_add_epi32(lane, _mm512_set1_epi32(FIRST as i32 + c)));
        integers(curve, q)
    });
    let halves = |low, high| _mm512_mask_blend_epi16(0xaaaa_aaaa, low, _mm512_slli_epi32::<16>(high));
    let (even, odd) = (halves(c0, c2), halves(c1, c3));
    let bytes = |even, odd| _mm512_mask_blend_epi8(0xaaaa_aaaa_aaaa_aaaa, even, odd);
    let low = bytes(even, _mm512_slli_epi16::<8>(odd));
    let high = bytes(_mm512_srli_epi16::<8>(even), odd);
    // A level whose low byte would be zero is raised by one, except that of magnitude zero.
    let zero = _mm512_testn_epi8_mask(low, low) & if FIRST == 0 { !1 } else { !0 };
    [_mm512_mask_mov_epi8(low, zero, _mm512_set1_epi8(1)), high]
}

/// gain·level in the lower half of each lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,avx512vnni")]
fn integers(curve: Curve, q: __m512) -> __m512i {
    let most = _mm512_set1_ps(f32::from(qins_codec::Code::MAX_MAGNITUDE));
    let bent = _mm512_mul_ps(_mm512_set1_ps(curve.k.get()), _mm512_sub_ps(most, q));
    let level = _mm512_div_ps(q, _mm512_add_ps(most, bent));
    // Adding 1.5·2²³, whose ulp is 1, leaves the rounded integer in the low bits.
    _mm512_castps_si512(_mm512_add_ps(_mm512_mul_ps(_mm512_set1_ps(curve.gain), level), _mm512_set1_ps(12_582_912.0)))
}
