//! Rows of groups whose levels are bytes. A weight is a level times the scale of its group, so products with levels are summed
//! within a group before they are scaled. A look-up finds 64 levels at once, whatever the curve of each. Activations are split
//! into their high and low bytes.

// Functions that must be inlined cannot enable AVX-512 themselves, and are therefore unsafe throughout.
#![allow(unsafe_op_in_unsafe_fn)]

use core::arch::x86_64::*;

use super::{
    indices::{Bits, ByteLevels, Levels},
    lanes::{BLOCKS, Late, first, load, mask},
};
use crate::{
    Layout, Width,
    kernel::{
        activations::{ActivationRow, Activations, Bytes},
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn add_product<const BITS: usize>(
    levels: &Levels,
    row: &GroupedRow<'_>,
    a: ActivationRow<'_>,
    rest: &Present,
    late: &mut Late<'_>,
    at: usize,
) where
    Bits<BITS>: ByteLevels,
{
    let (count, blocks) = (row.group_scale.len(), a.steps.len());
    assert!(row.packed.len() >= count * 4 * BITS && row.selector.len() >= count.div_ceil(FOUR));
    assert!(blocks == count.div_ceil(Layout::SUPER) && row.scale.len() == blocks && a.bytes.len() == 2 * blocks);
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
    /// The scale of each group.
    scales: [__m512i; 2],
    a: *const Bytes,
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
                _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(present.scales[0], scale.cast())),
                _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(present.scales[1], scale.wrapping_add(16).cast())),
            ],
            a: a.bytes.as_ptr().add(2 * BLOCKS * i),
            present,
        }
    }

    /// The lanes of Σ w·a of each block.
    ///
    /// # Safety
    /// That of [`new`](Self::new).
    #[inline(always)]
    unsafe fn lanes(&self, levels: &Levels) -> [__m512i; BLOCKS] {
        [
            _mm512_add_epi32(self.half::<0>(levels), self.half::<1>(levels)),
            _mm512_add_epi32(self.half::<2>(levels), self.half::<3>(levels)),
            _mm512_add_epi32(self.half::<4>(levels), self.half::<5>(levels)),
            _mm512_add_epi32(self.half::<6>(levels), self.half::<7>(levels)),
        ]
    }

    /// The lanes of Σ w·a of the `I`th half of a block.
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
