//! Rows of groups whose levels are bytes. A weight is a level times the scale of its group, so products with levels are summed
//! within a group before they are scaled. Two groups are multiplied at a time, one in each 128-bit lane.

// Functions that must be inlined cannot enable AVX2 themselves, and are therefore unsafe throughout.
#![allow(unsafe_op_in_unsafe_fn)]

use core::arch::x86_64::*;

use super::lanes_added;
use crate::{
    Layout, Width,
    kernel::{
        activations::{ActivationRow, Activations, BLOCK},
        prefetch::Ahead,
        row::{GroupedMatrix, GroupedRow},
    },
};

/// Bytes that are read of two groups of the widest codes.
const MOST_READ: usize = 40;

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
    let mut sum = 0.0;
    for (b, (a, step)) in a.values.iter().zip(a.steps).enumerate() {
        // SAFETY: this function enables what that one needs.
        let total = lanes_added(unsafe { block::<BITS, SECOND>(row, b, &a.0, ahead) });
        sum += total as f32 * (step * row.unit(b));
    }
    sum
}

/// The lanes of Σ w·a of block `b`.
#[inline(always)]
unsafe fn block<const BITS: usize, const SECOND: bool>(
    row: &GroupedRow<'_>,
    b: usize,
    a: &[i16; BLOCK],
    ahead: Ahead<SECOND>,
) -> __m256i {
    let mut sums = _mm256_setzero_si256();
    // Groups beyond the row's end have a scale of zero.
    let mut scales = [0; Layout::SUPER];
    let own = &row.group_scale[b * Layout::SUPER..];
    match own.first_chunk() {
        Some(all) => scales = *all,
        None => scales[..own.len()].copy_from_slice(own),
    }
    let scales = _mm256_cvtepi8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(scales)));
    let selectors = [0, 1].map(|i| row.selector.get(2 * b + i).copied().unwrap_or_default());
    let selectors = usize::from(u16::from_le_bytes(selectors));
    let codes = &row.packed[b * Layout::SUPER * 4 * BITS..];
    for line in 0..(Layout::SUPER * 4 * BITS).div_ceil(64) {
        ahead.line(codes.as_ptr().wrapping_add(64 * line));
    }
    let a = a.as_ptr().cast::<__m256i>();
    for pair in 0..Layout::SUPER / 2 {
        let start = pair * 2 * 4 * BITS;
        let mut copy = [0; MOST_READ];
        let Some(left) = codes.get(start..).filter(|left| !left.is_empty()) else { break };
        let packed = if left.len() < MOST_READ {
            copy[..left.len()].copy_from_slice(left);
            copy.as_ptr()
        } else {
            left.as_ptr()
        };
        let tables = [2 * pair, 2 * pair + 1].map(|g| {
            let curve = selectors >> (2 * g) & 3;
            row.levels.signed.as_ptr().add(curve << BITS)
        });
        let both = |at: usize| _mm256_loadu2_m128i(tables[1].add(at).cast(), tables[0].add(at).cast());
        let products = codes_of::<BITS>(packed).into_iter().enumerate().map(|(half, codes)| {
            let levels = match Width::of::<BITS>() {
                Width::W5 => {
                    let fifth = _mm256_slli_epi16::<3>(codes);
                    let (low, high) = (_mm256_shuffle_epi8(both(0), codes), _mm256_shuffle_epi8(both(16), codes));
                    _mm256_blendv_epi8(low, high, fifth)
                }
                // A table of 3 bits is eight levels, followed by eight that no code reaches.
                _ => _mm256_shuffle_epi8(both(0), codes),
            };
            let sign = _mm256_cmpgt_epi8(_mm256_setzero_si256(), levels);
            let a = a.add(4 * pair + 2 * half);
            _mm256_add_epi32(
                _mm256_madd_epi16(_mm256_unpacklo_epi8(levels, sign), _mm256_loadu_si256(a)),
                _mm256_madd_epi16(_mm256_unpackhi_epi8(levels, sign), _mm256_loadu_si256(a.add(1))),
            )
        });
        let products = products.fold(_mm256_setzero_si256(), |sum, product| _mm256_add_epi32(sum, product));
        let [g0, g1] = [2 * pair as i32, 2 * pair as i32 + 1];
        let scales = _mm256_permutevar8x32_epi32(scales, _mm256_setr_epi32(g0, g0, g0, g0, g1, g1, g1, g1));
        sums = _mm256_add_epi32(sums, _mm256_mullo_epi32(products, scales));
    }
    sums
}

/// The codes of two groups: of the first 16 columns of each, and of the others.
///
/// # Safety
/// [`MOST_READ`] bytes can be read at `packed`.
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
