//! Rows of groups whose levels are bytes. A weight is a level times the scale of its group, so products with levels are summed
//! within a group before they are scaled. A look-up finds 64 levels at once, whatever the curve of each. Activations are split
//! into their high and low bytes.

// Functions that must be inlined cannot enable AVX-512 themselves, and are therefore unsafe throughout.
#![allow(unsafe_op_in_unsafe_fn)]

use core::arch::x86_64::*;

use super::{
    indices::{Bits, ByteLevels, Levels},
    lanes::{BLOCKS, added, first, load, mask, totals},
};
use crate::{
    Layout, Width,
    kernel::{
        activations::{ActivationRow, Activations, Bytes},
        levels::GroupLevels,
        prefetch::Ahead,
        row::{GroupedMatrix, GroupedRow},
    },
};

/// Groups that are multiplied together: half a block. Their selectors are one byte.
const FOUR: usize = 4;

/// Groups of four blocks.
const GROUPS: usize = BLOCKS * Layout::SUPER;

/// Multiplies rows of weights, starting at row `from`, by each row of `x`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn gemv<const BITS: usize>(w: &GroupedMatrix<'_>, x: &Activations, from: usize, out: &mut [f32])
where
    Bits<BITS>: ByteLevels,
{
    // SAFETY: this function enables what these need.
    let levels = unsafe { Levels::new(&w.levels.signed) };
    let ahead = Ahead::get();
    for (r, out) in (from..).zip(out.chunks_exact_mut(x.rows())) {
        let row = w.row(r);
        ahead.parts(&row);
        for (j, y) in out.iter_mut().enumerate() {
            *y = product::<BITS>(&levels, &row, x.row(j), ahead);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn product<const BITS: usize>(levels: &Levels, row: &GroupedRow<'_>, a: ActivationRow<'_>, ahead: Ahead) -> f32
where
    Bits<BITS>: ByteLevels,
{
    let (count, blocks) = (row.group_scale.len(), a.steps.len());
    assert!(row.packed.len() >= count * 4 * BITS && row.selector.len() >= count.div_ceil(FOUR));
    assert!(blocks == count.div_ceil(Layout::SUPER) && row.scale.len() == blocks && a.bytes.len() == 2 * blocks);
    let (whole, rest) = (count / GROUPS, count % GROUPS);
    let mut sum = 0.0;
    // SAFETY: by the assertions above, the row has all groups that are named, and blocks for them.
    unsafe {
        for i in 0..whole {
            sum = four_blocks::<BITS>(levels, row, a, i, GROUPS, sum, ahead);
        }
        if rest > 0 {
            sum = four_blocks::<BITS>(levels, row, a, whole, rest, sum, ahead);
        }
    }
    sum
}

/// Adds the `i`th four blocks to `sum`, of which the row has `groups` groups.
///
/// # Safety
/// The row has them, and there are scales and activations for all their blocks.
#[inline(always)]
unsafe fn four_blocks<const BITS: usize>(
    levels: &Levels,
    row: &GroupedRow<'_>,
    a: ActivationRow<'_>,
    i: usize,
    groups: usize,
    sum: f32,
    ahead: Ahead,
) -> f32
where
    Bits<BITS>: ByteLevels,
{
    let blocks = groups.div_ceil(Layout::SUPER);
    let selectors =
        _mm_maskz_loadu_epi8(mask(groups.div_ceil(FOUR)), row.selector.as_ptr().add(i * GROUPS / FOUR).cast());
    let scale = row.group_scale.as_ptr().wrapping_add(i * GROUPS);
    let four = Four::<BITS> {
        packed: row.packed.as_ptr().add(i * GROUPS * 4 * BITS),
        curves: _mm512_broadcastq_epi64(selectors),
        // Groups beyond the row's end have a scale of zero.
        scales: [0, 16].map(|at: usize| {
            _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask(groups.saturating_sub(at)), scale.wrapping_add(at).cast()))
        }),
        a: a.bytes.as_ptr().add(2 * BLOCKS * i),
        groups,
        ahead,
    };
    let sums = totals([
        _mm512_add_epi32(four.half::<0>(levels), four.half::<1>(levels)),
        _mm512_add_epi32(four.half::<2>(levels), four.half::<3>(levels)),
        _mm512_add_epi32(four.half::<4>(levels), four.half::<5>(levels)),
        _mm512_add_epi32(four.half::<6>(levels), four.half::<7>(levels)),
    ]);
    let steps = first(a.steps.as_ptr().add(BLOCKS * i), blocks);
    let scales = first(row.scale.as_ptr().add(BLOCKS * i), blocks);
    added(sum, sums, steps, _mm_mul_ps(scales, _mm_set1_ps(GroupLevels::unit(Width::of::<BITS>()))), blocks)
}

/// Four blocks of a row.
struct Four<const BITS: usize> {
    packed: *const u8,
    /// The selectors of all groups, in each 64 bits.
    curves: __m512i,
    /// The scale of each group.
    scales: [__m512i; 2],
    a: *const Bytes,
    groups: usize,
    ahead: Ahead,
}

impl<const BITS: usize> Four<BITS>
where
    Bits<BITS>: ByteLevels,
{
    /// The lanes of Σ w·a of the `I`th half of a block.
    ///
    /// # Safety
    /// There are `groups` groups to read, and activations for them.
    #[inline(always)]
    unsafe fn half<const I: usize>(&self, levels: &Levels) -> __m512i {
        let groups = self.groups.saturating_sub(FOUR * I);
        if groups == 0 {
            return _mm512_setzero_si512();
        }
        let packed = self.packed.add(I * FOUR * 4 * BITS);
        // Each cache line once: those that start here, if the four blocks did at one.
        for line in (I * BITS).div_ceil(4)..((I + 1) * BITS).div_ceil(4) {
            self.ahead.line(self.packed.wrapping_add(64 * line));
        }
        let a = &*self.a.add(I);
        let [low, high] = Bits::<BITS>::indices(packed, groups.min(FOUR), self.curves::<I>());
        let [low, high] = [Bits::<BITS>::look_up(levels, low), Bits::<BITS>::look_up(levels, high)];
        let mut upper = _mm512_dpbusd_epi32(_mm512_setzero_si512(), low, load(&a.high[0]));
        let mut lower = _mm512_dpbusd_epi32(load(&a.offset), low, load(&a.low[0]));
        upper = _mm512_dpbusd_epi32(upper, high, load(&a.high[1]));
        lower = _mm512_dpbusd_epi32(lower, high, load(&a.low[1]));
        let sums = _mm512_add_epi32(lower, _mm512_slli_epi32::<8>(upper));
        _mm512_mullo_epi32(sums, self.scales::<I>())
    }

    /// The curve of each group of the `I`th four, in each of its bytes: in the bits right above those of a code.
    #[inline(always)]
    unsafe fn curves<const I: usize>(&self) -> __m512i {
        let places: [u64; 8] = const {
            let (mut places, mut i) = ([0; 8], 0);
            while i < 8 {
                // The position of the eight bits that move to a byte. Positions wrap around.
                places[i] = 0x0101_0101_0101_0101 * ((8 * I + i / 2 * 2 + 64 - BITS) % 64) as u64;
                i += 1;
            }
            places
        };
        _mm512_multishift_epi64_epi8(load(&places), self.curves)
    }

    /// The scale of each group of the `I`th four, in each of its four lanes.
    #[inline(always)]
    unsafe fn scales<const I: usize>(&self) -> __m512i {
        let lanes: [u32; 16] = const {
            let (mut lanes, mut i) = ([0; 16], 0);
            while i < 16 {
                lanes[i] = (FOUR * (I % 4) + i / 4) as u32;
                i += 1;
            }
            lanes
        };
        _mm512_permutexvar_epi32(load(&lanes), self.scales[I / 4])
    }
}
