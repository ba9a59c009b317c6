//! Rows of groups whose levels are bytes. A weight is a level times the scale of its group, so products with levels are summed
//! within a group before they are scaled. Two groups are multiplied at a time, one in each 128-bit lane.

// Functions that must be inlined cannot enable AVX2 themselves, and are therefore unsafe throughout.
#![allow(unsafe_op_in_unsafe_fn)]

use core::{arch::x86_64::*, mem::MaybeUninit};

use super::lanes_added;
use crate::{
    Layout, Width,
    kernel::{
        activations::{ActivationRow, Activations, BLOCK},
        prefetch::Ahead,
        row::{GroupedMatrix, GroupedRow},
        simd::in_order,
    },
};

/// Bytes of the widest codes of a block.
const MOST: usize = Layout::SUPER * 4 * 5;

/// Multiplies rows of weights, starting at row `first`, by each row of `x`, whose values are in [pairs](Activations::pair).
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn gemv<const BITS: usize, const SECOND: bool>(
    w: &GroupedMatrix<'_>,
    x: &Activations,
    first: usize,
    out: &mut [f32],
    ahead: Ahead<SECOND>,
) {
    let rows = ahead.rows(w.row(first).packed);
    for (r, out) in (first..).zip(out.chunks_exact_mut(x.rows())) {
        let row = w.row(r);
        ahead.parts(&row, rows);
        for (j, y) in out.iter_mut().enumerate() {
            *y = product::<BITS, SECOND>(&row, x.row(j), ahead);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn product<const BITS: usize, const SECOND: bool>(
    row: &GroupedRow<'_>,
    a: ActivationRow<'_>,
    ahead: Ahead<SECOND>,
) -> f32 {
    let (mut sum, levels) = (0.0, &row.levels.signed);
    let parts = row.packed.chunks(Layout::SUPER * 4 * BITS).zip(row.group_scale.chunks(Layout::SUPER));
    for (b, ((codes, scales), (a, step))) in parts.zip(a.values.iter().zip(a.steps)).enumerate() {
        for line in 0..codes.len().div_ceil(64) {
            ahead.line(codes.as_ptr().wrapping_add(64 * line));
        }
        let selectors = row.selector[2 * b..].first_chunk().copied().unwrap_or_else(|| [row.selector[2 * b], 0]);
        // Groups beyond the row's end have a scale of zero.
        let (mut all_codes, mut all_scales) = (MaybeUninit::uninit(), [0; Layout::SUPER]);
        let (codes, scales) = match scales.first_chunk() {
            Some(scales) => (codes.as_ptr(), *scales),
            None => {
                let all_codes: &mut [u8; MOST] = all_codes.write([0; MOST]);
                all_codes[..codes.len()].copy_from_slice(codes);
                all_scales[..scales.len()].copy_from_slice(scales);
                (all_codes.as_ptr(), all_scales)
            }
        };
        // SAFETY: as many codes as eight groups have can be read, and this function enables what that one needs.
        let total = lanes_added(unsafe { Block::<BITS> { codes, scales, selectors, levels }.lanes(&a.0) });
        sum += total as f32 * (step * row.unit(b));
    }
    sum
}

/// Eight groups.
struct Block<'a, const BITS: usize> {
    codes: *const u8,
    scales: [u8; Layout::SUPER],
    selectors: [u8; 2],
    levels: &'a [i8; 128],
}

impl<const BITS: usize> Block<'_, BITS> {
    /// The lanes of Σ w·a.
    ///
    /// # Safety
    /// 32·BITS bytes can be read at `codes`.
    #[inline(always)]
    unsafe fn lanes(&self, a: &[i16; BLOCK]) -> __m256i {
        let scales = _mm256_cvtepi8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(self.scales)));
        let pairs = [
            self.pair::<0>(scales, a),
            self.pair::<1>(scales, a),
            self.pair::<2>(scales, a),
            self.pair::<3>(scales, a),
        ];
        _mm256_add_epi32(_mm256_add_epi32(pairs[0], pairs[1]), _mm256_add_epi32(pairs[2], pairs[3]))
    }

    /// The lanes of Σ w·a of the `I`th two groups.
    #[inline(always)]
    unsafe fn pair<const I: usize>(&self, scales: __m256i, a: &[i16; BLOCK]) -> __m256i {
        in_order();
        let selectors = usize::from(u16::from_le_bytes(self.selectors));
        let table = |g: usize| self.levels.as_ptr().add((selectors >> (2 * g) & 3) << BITS);
        let (first, second) = (table(2 * I), table(2 * I + 1));
        let both = |at: usize| _mm256_loadu2_m128i(second.add(at).cast(), first.add(at).cast());
        let look_up = |codes: __m256i| match Width::of::<BITS>() {
            Width::W5 => {
                let fifth = _mm256_slli_epi16::<3>(codes);
                _mm256_blendv_epi8(_mm256_shuffle_epi8(both(0), codes), _mm256_shuffle_epi8(both(16), codes), fifth)
            }
            // A table of 3 bits is eight levels, followed by eight that no code reaches.
            _ => _mm256_shuffle_epi8(both(0), codes),
        };
        let [low, high] = codes_of::<BITS>(self.codes.add(I * 2 * 4 * BITS));
        let a = a.as_ptr().cast::<__m256i>().add(4 * I);
        let products = _mm256_add_epi32(multiplied(look_up(low), a), multiplied(look_up(high), a.add(2)));
        let [g0, g1] = [2 * I as i32, 2 * I as i32 + 1];
        let scales = _mm256_permutevar8x32_epi32(scales, _mm256_setr_epi32(g0, g0, g0, g0, g1, g1, g1, g1));
        _mm256_mullo_epi32(products, scales)
    }
}

/// The lanes of the products of 32 levels with words, in pairs of groups.
///
/// # Safety
/// 32 words can be read at `a`.
#[inline(always)]
unsafe fn multiplied(levels: __m256i, a: *const __m256i) -> __m256i {
    let sign = _mm256_cmpgt_epi8(_mm256_setzero_si256(), levels);
    _mm256_add_epi32(
        _mm256_madd_epi16(_mm256_unpacklo_epi8(levels, sign), _mm256_loadu_si256(a)),
        _mm256_madd_epi16(_mm256_unpackhi_epi8(levels, sign), _mm256_loadu_si256(a.add(1))),
    )
}

/// The codes of two groups: of the first 16 columns of each, and of the others.
///
/// # Safety
/// 8·BITS bytes can be read at `packed`.
#[inline(always)]
unsafe fn codes_of<const BITS: usize>(packed: *const u8) -> [__m256i; 2] {
    let other = packed.add(4 * BITS);
    // The two fields of a plane of 4-bit fields, whose bytes are the first 16 of each group.
    let fours = || {
        let all = _mm256_loadu2_m128i(other.cast(), packed.cast());
        let mask = _mm256_set1_epi8(15);
        [_mm256_and_si256(all, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(all), mask)]
    };
    // The fields of a plane of 1-bit fields, at the place of bit `BIT`: those of four columns are in a byte each of 32 bits, and
    // those of later columns above.
    let ones = |at: usize, bit: i32| {
        let word = |p: *const u8| _mm_set1_epi32(p.add(at).cast::<i32>().read_unaligned());
        let all = _mm256_set_m128i(word(other), word(packed));
        let columns = _mm256_setr_epi32(0, 1, 2, 3, 0, 1, 2, 3);
        let low = _mm256_srlv_epi32(_mm256_sll_epi32(all, _mm_cvtsi32_si128(bit)), columns);
        let high = _mm256_srlv_epi32(all, _mm256_add_epi32(columns, _mm256_set1_epi32(4 - bit)));
        [low, high].map(|fields| _mm256_and_si256(fields, _mm256_set1_epi8(1 << bit)))
    };
    let or =
        |low: [__m256i; 2], high: [__m256i; 2]| [_mm256_or_si256(low[0], high[0]), _mm256_or_si256(low[1], high[1])];
    match Width::of::<BITS>() {
        Width::W3 => {
            let eight = |p: *const u8| _mm_set1_epi64x(p.cast::<i64>().read_unaligned());
            let all = _mm256_set_m128i(eight(other), eight(packed));
            let low = _mm256_srlv_epi64(all, _mm256_setr_epi64x(0, 2, 0, 2));
            let twos = [low, _mm256_srli_epi16::<4>(low)].map(|f| _mm256_and_si256(f, _mm256_set1_epi8(3)));
            or(twos, ones(8, 2))
        }
        Width::W4 => fours(),
        Width::W5 => or(fours(), ones(16, 4)),
        Width::W6 | Width::W8 => unreachable!("their levels are words"),
    }
}
