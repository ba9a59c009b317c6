//! Rows of groups whose levels are bytes. A weight is a level times the scale of its group, so products with levels are summed
//! within a group before they are scaled. A look-up finds 64 levels at once, whatever the curve of each. Activations are split
//! into their high and low bytes.

// Functions that must be inlined cannot enable AVX-512 themselves, and are therefore unsafe throughout.
#![allow(unsafe_op_in_unsafe_fn)]

use core::arch::x86_64::*;

use super::lanes::lanes_added;
use crate::{
    Layout,
    kernel::{
        activations::Bytes,
        row::GroupedRow,
        simd::{PREFETCH_DISTANCE, prefetch},
    },
};

/// Groups that are multiplied together: half a block. Their selectors are one byte.
const FOUR: usize = 4;

/// Bits of the widest code whose levels are bytes.
const MOST_BITS: usize = 5;

/// Σ w·a of each block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn totals<const BITS: usize>(row: &GroupedRow<'_>, a: &[Bytes], totals: &mut [i32])
where
    Bits<BITS>: ByteLevels,
{
    const { assert!(BITS <= MOST_BITS) };
    let count = row.group_scale.len();
    assert!(row.packed.len() >= count * 4 * BITS && row.selector.len() >= count.div_ceil(FOUR));
    assert!(a.len() == 2 * totals.len() && totals.len() == count.div_ceil(Layout::SUPER));
    // SAFETY: by the assertions above, all groups that are read lie within the row; the last four may not, and are copied.
    unsafe {
        let levels = Levels::new(&row.levels.signed);
        let (packed, selector, scale) = (row.packed.as_ptr(), row.selector.as_ptr(), row.group_scale.as_ptr());
        let two_blocks = |b: usize| {
            // One load brings the selectors of two blocks, and one their scales.
            let (h, a) = (2 * b, a.as_ptr().add(2 * b));
            let packed = packed.add(h * FOUR * 4 * BITS);
            let curves = _mm512_set1_epi32(selector.add(h).cast::<i32>().read_unaligned());
            let scales = _mm512_cvtepi8_epi32(_mm_loadu_si128(scale.add(h * FOUR).cast()));
            let four_groups = |i: usize, curves, scales| {
                let packed = packed.add(i * FOUR * 4 * BITS);
                prefetch(packed.wrapping_add(PREFETCH_DISTANCE));
                lanes::<BITS>(&levels, packed, curves, scales, &*a.add(i))
            };
            [
                _mm512_add_epi32(
                    four_groups(0, curves_of::<BITS, 0>(curves), scales_of::<0>(scales)),
                    four_groups(1, curves_of::<BITS, 1>(curves), scales_of::<1>(scales)),
                ),
                _mm512_add_epi32(
                    four_groups(2, curves_of::<BITS, 2>(curves), scales_of::<2>(scales)),
                    four_groups(3, curves_of::<BITS, 3>(curves), scales_of::<3>(scales)),
                ),
            ]
        };
        let whole = count / (4 * Layout::SUPER);
        for i in 0..whole {
            let ([b0, b1], [b2, b3]) = (two_blocks(4 * i), two_blocks(4 * i + 2));
            // Adds pairs of lanes, then pairs of these: each 128-bit lane ends up with one lane per block.
            let pairs = [
                _mm512_add_epi32(_mm512_unpacklo_epi32(b0, b1), _mm512_unpackhi_epi32(b0, b1)),
                _mm512_add_epi32(_mm512_unpacklo_epi32(b2, b3), _mm512_unpackhi_epi32(b2, b3)),
            ];
            let fours = halves_added(_mm512_add_epi32(
                _mm512_unpacklo_epi64(pairs[0], pairs[1]),
                _mm512_unpackhi_epi64(pairs[0], pairs[1]),
            ));
            let sums = _mm_add_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256::<1>(fours));
            _mm_storeu_si128(totals.as_mut_ptr().add(4 * i).cast(), sums);
        }
        for (b, total) in totals.iter_mut().enumerate().skip(4 * whole) {
            let mut sum = _mm512_setzero_si512();
            for (h, a) in (2 * b..count.div_ceil(FOUR)).zip(&a[2 * b..2 * b + 2]) {
                let groups = (count - h * FOUR).min(FOUR);
                // Groups beyond the row's end have a scale of zero.
                let (mut codes, mut scales) = ([0_u8; FOUR * 4 * MOST_BITS], [0; 16]);
                codes[..groups * 4 * BITS].copy_from_slice(&row.packed[h * FOUR * 4 * BITS..][..groups * 4 * BITS]);
                scales[..groups].copy_from_slice(&row.group_scale[h * FOUR..][..groups]);
                let curves = curves_of::<BITS, 0>(_mm512_set1_epi32(i32::from(row.selector[h])));
                let scales = scales_of::<0>(_mm512_cvtepi8_epi32(_mm_loadu_si128(scales.as_ptr().cast())));
                sum = _mm512_add_epi32(sum, lanes::<BITS>(&levels, codes.as_ptr(), curves, scales, a));
            }
            *total = lanes_added(halves_added(sum));
        }
    }
}

#[inline(always)]
unsafe fn halves_added(lanes: __m512i) -> __m256i {
    _mm256_add_epi32(_mm512_castsi512_si256(lanes), _mm512_extracti64x4_epi64::<1>(lanes))
}

/// Extracts the curves of the `I`th four of 16 groups, whose selectors are in each 32 bits: each byte of a group gets its curve,
/// in the bits right above those of a code.
#[inline(always)]
unsafe fn curves_of<const BITS: usize, const I: usize>(selectors: __m512i) -> __m512i {
    let places: [u64; 8] = const {
        let (mut places, mut i) = ([0; 8], 0);
        while i < 8 {
            // The position of the eight bits that move to a byte. Positions wrap around.
            places[i] = 0x0101_0101_0101_0101 * ((8 * I + i / 2 * 2 + 64 - BITS) % 64) as u64;
            i += 1;
        }
        places
    };
    _mm512_multishift_epi64_epi8(load(&places), selectors)
}

/// Extracts the scales of the `I`th four of 16 groups, each into the four lanes of its group.
#[inline(always)]
unsafe fn scales_of<const I: usize>(scales: __m512i) -> __m512i {
    let lanes: [u32; 16] = const {
        let (mut lanes, mut i) = ([0; 16], 0);
        while i < 16 {
            lanes[i] = (FOUR * I + i / 4) as u32;
            i += 1;
        }
        lanes
    };
    _mm512_permutexvar_epi32(load(&lanes), scales)
}

/// The levels of all curves plus 128, as the instruction multiplies unsigned bytes by signed ones.
pub(super) struct Levels([__m512i; 2]);

impl Levels {
    #[inline(always)]
    unsafe fn new(levels: &[i8; 128]) -> Self {
        let (levels, sign) = (levels.as_ptr(), _mm512_set1_epi8(i8::MIN));
        let (low, high) = (_mm512_loadu_si512(levels.cast()), _mm512_loadu_si512(levels.add(64).cast()));
        Self([_mm512_xor_si512(low, sign), _mm512_xor_si512(high, sign)])
    }
}

/// Σ w·a of four groups, in four lanes each.
///
/// # Safety
/// 16·BITS bytes can be read at `packed`.
#[inline(always)]
unsafe fn lanes<const BITS: usize>(
    levels: &Levels,
    packed: *const u8,
    curves: __m512i,
    scales: __m512i,
    a: &Bytes,
) -> __m512i
where
    Bits<BITS>: ByteLevels,
{
    let [first, second] = Bits::<BITS>::indices(packed, curves);
    let [first, second] = [Bits::<BITS>::look_up(levels, first), Bits::<BITS>::look_up(levels, second)];
    let mut high = _mm512_dpbusd_epi32(_mm512_setzero_si512(), first, load(&a.high[0]));
    let mut low = _mm512_dpbusd_epi32(load(&a.offset), first, load(&a.low[0]));
    high = _mm512_dpbusd_epi32(high, second, load(&a.high[1]));
    low = _mm512_dpbusd_epi32(low, second, load(&a.low[1]));
    let sums = _mm512_add_epi32(low, _mm512_slli_epi32::<8>(high));
    _mm512_mullo_epi32(sums, scales)
}

#[inline(always)]
unsafe fn load<T>(all: &T) -> __m512i {
    const { assert!(size_of::<T>() == 64) };
    _mm512_loadu_si512(core::ptr::from_ref(all).cast())
}

/// A width whose levels are bytes.
pub(super) trait ByteLevels {
    /// The indices of the levels of four groups: of the first 16 columns of each, and of the others. Bits above the index are
    /// arbitrary.
    ///
    /// # Safety
    /// 16 bytes per bit of a code can be read at `packed`, and the machine has AVX-512.
    unsafe fn indices(packed: *const u8, curves: __m512i) -> [__m512i; 2];

    /// The levels at these indices.
    ///
    /// # Safety
    /// The machine has AVX-512.
    unsafe fn look_up(levels: &Levels, indices: __m512i) -> __m512i;
}

/// A width as a type.
pub(super) struct Bits<const BITS: usize>;

impl ByteLevels for Bits<3> {
    #[inline(always)]
    unsafe fn indices(packed: *const u8, curves: __m512i) -> [__m512i; 2] {
        // Each group has two words of two bits per code and one of one bit per code.
        let all = _mm512_maskz_loadu_epi32(0xfff, packed.cast());
        let twos = _mm512_permutexvar_epi32(load(&[0, 1, 0, 1, 3, 4, 3, 4, 6, 7, 6, 7, 9, 10, 9, 10]), all);
        let ones = _mm512_permutexvar_epi32(load(&[2, 2, 2, 2, 5, 5, 5, 5, 8, 8, 8, 8, 11, 11, 11, 11]), all);
        // The third bit of a code is bit q of its column's byte in the first half, and bit 4 + q in the second.
        let first = select::<4>(_mm512_rolv_epi32(ones, _mm512_set4_epi32(31, 0, 1, 2)), curves);
        let second = select::<4>(_mm512_rolv_epi32(ones, _mm512_set4_epi32(27, 28, 29, 30)), curves);
        [
            select::<3>(_mm512_srlv_epi64(twos, load(&[0_i64, 2, 0, 2, 0, 2, 0, 2])), first),
            select::<3>(_mm512_srlv_epi64(twos, load(&[4_i64, 6, 4, 6, 4, 6, 4, 6])), second),
        ]
    }

    #[inline(always)]
    unsafe fn look_up(levels: &Levels, indices: __m512i) -> __m512i {
        _mm512_permutexvar_epi8(indices, levels.0[0])
    }
}

impl ByteLevels for Bits<4> {
    #[inline(always)]
    unsafe fn indices(packed: *const u8, curves: __m512i) -> [__m512i; 2] {
        let all = _mm512_loadu_si512(packed.cast());
        [select::<15>(all, curves), select::<15>(_mm512_srli_epi16::<4>(all), curves)]
    }

    #[inline(always)]
    unsafe fn look_up(levels: &Levels, indices: __m512i) -> __m512i {
        _mm512_permutexvar_epi8(indices, levels.0[0])
    }
}

impl ByteLevels for Bits<5> {
    #[inline(always)]
    unsafe fn indices(packed: *const u8, curves: __m512i) -> [__m512i; 2] {
        // Each group has four words of four bits per code and one of one bit per code: 20 words, which are two loads.
        let (low, high) = (_mm512_loadu_si512(packed.cast()), _mm512_loadu_si512(packed.add(16).cast()));
        let fours = load(&[0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 15, 28, 29, 30]);
        let ones = load(&[4, 4, 4, 4, 9, 9, 9, 9, 14, 14, 14, 14, 31, 31, 31, 31]);
        let fours = _mm512_permutex2var_epi32(low, fours, high);
        let ones = _mm512_permutex2var_epi32(low, ones, high);
        let first = select::<16>(_mm512_rolv_epi32(ones, _mm512_set4_epi32(1, 2, 3, 4)), curves);
        let second = select::<16>(_mm512_rolv_epi32(ones, _mm512_set4_epi32(29, 30, 31, 0)), curves);
        [select::<15>(fours, first), select::<15>(_mm512_srli_epi16::<4>(fours), second)]
    }

    #[inline(always)]
    unsafe fn look_up(levels: &Levels, indices: __m512i) -> __m512i {
        _mm512_permutex2var_epi8(levels.0[0], indices, levels.0[1])
    }
}

/// `low` in the bits of the mask of each byte, `high` in the others.
#[inline(always)]
unsafe fn select<const MASK: i8>(low: __m512i, high: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0xe4>(low, high, _mm512_set1_epi8(MASK))
}
