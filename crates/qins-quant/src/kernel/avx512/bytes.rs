//! Rows of groups whose levels are bytes. A weight is a level times the scale of its group, so products with levels are summed
//! within a group before they are scaled. A look-up finds 64 levels at once, whatever the curve of each. Activations are split
//! into their high and low bytes.

// Functions that must be inlined cannot enable AVX-512 themselves, and are therefore unsafe throughout.
#![allow(unsafe_op_in_unsafe_fn)]

use core::arch::x86_64::*;

use super::{
    indices::{Bits, ByteLevels, Levels},
    lanes::{BLOCKS, Halves, Late, add_lanes, first, load, mask},
};
use crate::{
    Layout, Width,
    kernel::{
        activations::{ActivationRow, Activations, Bytes, Offsets},
        levels::GroupLevels,
        prefetch,
        row::{GroupedMatrix, GroupedRow},
        simd::in_order,
    },
};

/// Groups that are multiplied together: half a block. Their selectors are one byte.
const FOUR: usize = 4;

/// Groups of four blocks.
const GROUPS: usize = BLOCKS * Layout::SUPER;

/// Multiplies rows of weights, starting at row `from`, by each row of `x`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,avx512vnni")]
pub(super) fn gemv<const BITS: usize>(w: &GroupedMatrix<'_>, x: &Activations, from: usize, out: &mut [f32])
where
    Bits<BITS>: ByteLevels,
{
    // SAFETY: this function enables what these need.
    let levels = unsafe { Levels::new(&w.levels.signed) };
    let rest = Present::new(BITS, w.groups() % GROUPS);
    // SAFETY: as above.
    let mut late = unsafe { Late::new(out) };
    let (x, rows) = (x.all(), prefetch::rows(w.row(from).packed));
    for (i, first) in (0..late.len()).step_by(x.len()).enumerate() {
        let row = w.row(from + i);
        prefetch::parts(&row, rows);
        for (j, x) in x.iter().enumerate() {
            add_product::<BITS>(&levels, &row, *x, &rest, &mut late, first + j);
        }
    }
    // SAFETY: as above.
    unsafe { late.finish() };
}

/// Adds the product of two rows to output `at`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,avx512vnni")]
fn add_product<const BITS: usize>(
    levels: &Levels,
    row: &GroupedRow<'_>,
    a: ActivationRow<'_>,
    rest: &Present,
    late: &mut Late<'_, Halves>,
    at: usize,
) where
    Bits<BITS>: ByteLevels,
{
    let (count, blocks) = (row.group_scale.len(), a.steps.len());
    assert!(row.packed.len() >= count * 4 * BITS && row.selector.len() >= count.div_ceil(FOUR));
    assert!(blocks == count.div_ceil(Layout::SUPER) && row.scale.len() == blocks && a.bytes.len() == 2 * blocks);
    assert!(a.offsets.len() == blocks.div_ceil(BLOCKS));
    let whole = count / GROUPS;
    assert!(rest.groups == count % GROUPS && at < late.len());
    // SAFETY: by the assertions above, the row has all groups that are named, and blocks for them.
    unsafe {
        for i in 0..whole {
            let four = Four::<BITS>::new(row, a, i, &const { Present::new(BITS, GROUPS) });
            late.add(at, four.lanes(levels), scales::<BITS>(row, a, i, BLOCKS), BLOCKS);
        }
        if rest.groups > 0 {
            let blocks = rest.groups.div_ceil(Layout::SUPER);
            let four = Four::<BITS>::new(row, a, whole, rest);
            late.add(at, four.lanes(levels), scales::<BITS>(row, a, whole, blocks), blocks);
        }
    }
}

/// The steps and units of the first `n` of the `i`th four blocks.
#[inline(always)]
unsafe fn scales<const BITS: usize>(row: &GroupedRow<'_>, a: ActivationRow<'_>, i: usize, n: usize) -> [__m128; 2] {
    let units =
        _mm_mul_ps(first(row.scale.as_ptr().add(BLOCKS * i), n), _mm_set1_ps(GroupLevels::unit(Width::of::<BITS>())));
    [first(a.steps.as_ptr().add(BLOCKS * i), n), units]
}

/// Which of four blocks a row has, as masks.
struct Present {
    groups: usize,
    selectors: u16,
    scales: [u16; 2],
    /// Of the words of the codes of the last groups, where there are not four: the first 16, and 16 from the fifth on.
    words: [u16; 2],
}

impl Present {
    const fn new(bits: usize, groups: usize) -> Self {
        Self {
            groups,
            selectors: mask(groups.div_ceil(FOUR)),
            scales: [mask(groups), mask(groups.saturating_sub(16))],
            words: [mask(groups % FOUR * bits), mask((groups % FOUR * bits).saturating_sub(4))],
        }
    }
}

/// Four blocks of a row.
struct Four<'a, const BITS: usize> {
    packed: *const u8,
    /// The selectors of all groups, in each 64 bits.
    curves: __m512i,
    /// The scales of two blocks and of two others: in each 128 bits those of the groups at one place of each half block.
    scales: [__m512i; 2],
    a: *const Bytes,
    offsets: *const Offsets,
    present: &'a Present,
}

impl<'a, const BITS: usize> Four<'a, BITS>
where
    Bits<BITS>: ByteLevels,
{
    /// The `i`th four blocks of a row.
    ///
    /// # Safety
    /// The row has the groups that are present, and there are activations for their blocks.
    #[inline(always)]
    unsafe fn new(row: &GroupedRow<'_>, a: ActivationRow<'_>, i: usize, present: &'a Present) -> Self {
        let selectors = row.selector.as_ptr().add(i * GROUPS / FOUR);
        let scale = row.group_scale.as_ptr().add(i * GROUPS);
        Self {
            packed: row.packed.as_ptr().add(i * GROUPS * 4 * BITS),
            // A load with a mask may wait for stores.
            curves: _mm512_broadcastq_epi64(if present.groups == GROUPS {
                _mm_loadl_epi64(selectors.cast())
            } else {
                _mm_maskz_loadu_epi8(present.selectors, selectors.cast())
            }),
            // Groups beyond the row's end have a scale of zero.
            scales: [
                by_place(_mm_maskz_loadu_epi8(present.scales[0], scale.cast())),
                by_place(_mm_maskz_loadu_epi8(present.scales[1], scale.wrapping_add(16).cast())),
            ],
            a: a.bytes.as_ptr().add(2 * BLOCKS * i),
            offsets: a.offsets.as_ptr().add(i),
            present,
        }
    }

    /// The lanes of Σ w·a.
    ///
    /// # Safety
    /// That of [`new`](Self::new).
    #[inline(always)]
    unsafe fn lanes(&self, levels: &Levels) -> Halves {
        // Lanes are added before they are scaled: that is a quarter of the multiplications, which are slow.
        let sums = [
            add_lanes([self.half::<0>(levels), self.half::<1>(levels), self.half::<2>(levels), self.half::<3>(levels)]),
            add_lanes([self.half::<4>(levels), self.half::<5>(levels), self.half::<6>(levels), self.half::<7>(levels)]),
        ];
        let Offsets([first, second]) = &*self.offsets;
        let [first, second] = [_mm512_add_epi32(sums[0], load(first)), _mm512_add_epi32(sums[1], load(second))];
        Halves([_mm512_mullo_epi32(first, self.scales[0]), _mm512_mullo_epi32(second, self.scales[1])])
    }

    /// The lanes of Σ (level + 128)·a of the `I`th half of a block: four of each group.
    ///
    /// # Safety
    /// That of [`new`](Self::new).
    #[inline(always)]
    unsafe fn half<const I: usize>(&self, levels: &Levels) -> __m512i {
        let groups = self.present.groups.saturating_sub(FOUR * I);
        if groups == 0 {
            return _mm512_setzero_si512();
        }
        in_order();
        let packed = self.packed.add(I * FOUR * 4 * BITS);
        // Each cache line once: those that start here, if the four blocks did at one.
        for line in (I * BITS).div_ceil(4)..((I + 1) * BITS).div_ceil(4) {
            prefetch::line(self.packed.wrapping_add(64 * line));
        }
        let a = &*self.a.add(I);
        let codes = if groups >= FOUR {
            Bits::<BITS>::read_four(packed)
        } else {
            Bits::<BITS>::read(packed, self.present.words)
        };
        let [low, high] = Bits::<BITS>::indices(codes, self.curves::<I>());
        let [low, high] = [Bits::<BITS>::look_up(levels, low), Bits::<BITS>::look_up(levels, high)];
        let upper = _mm512_dpbusd_epi32(_mm512_setzero_si512(), low, load(&a.high[0]));
        let upper = _mm512_dpbusd_epi32(upper, high, load(&a.high[1]));
        let sums = _mm512_dpbusd_epi32(_mm512_slli_epi32::<8>(upper), low, load(&a.low[0]));
        _mm512_dpbusd_epi32(sums, high, load(&a.low[1]))
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
}

/// The scales of four times four groups: first those of the first of each four.
#[inline(always)]
unsafe fn by_place(scales: __m128i) -> __m512i {
    _mm512_cvtepi8_epi32(_mm_shuffle_epi8(scales, _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)))
}
