//! Rows of groups whose levels are words, which are looked up a group at a time: low and high bytes at once, and then scaled.

// Functions that must be inlined cannot enable AVX-512 themselves, and are therefore unsafe throughout.
#![allow(unsafe_op_in_unsafe_fn)]

use core::{arch::x86_64::*, mem::MaybeUninit};

use super::lanes::{BLOCKS, Late, first, load, mask};
use crate::{
    Layout, Width,
    kernel::{
        activations::{ActivationRow, Activations, Block, LARGEST_WEIGHT},
        levels::GroupLevels,
        prefetch,
        row::{GroupedMatrix, GroupedRow},
        simd::in_order,
    },
};

/// Groups per block.
const GROUPS: usize = Layout::SUPER;

/// Blocks whose scales are widened at a time. Many, since loading a scale right after a wide store of it is slow.
const WIDENED: usize = 32;

/// 256 times the scale of each group of some blocks, in both halves of 32 bits.
#[repr(align(64))]
struct Scales([MaybeUninit<[i32; GROUPS]>; WIDENED]);

/// Multiplies rows of weights, starting at row `from`, by each row of `x`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn gemv<const BITS: usize>(w: &GroupedMatrix<'_>, x: &Activations, from: usize, out: &mut [f32]) {
    let mut scales = Scales([const { MaybeUninit::uninit() }; WIDENED]);
    // SAFETY: this function enables what these need.
    let mut late = unsafe { Late::new(out) };
    let (x, rows) = (x.all(), prefetch::rows(w.row(from).packed));
    for (i, first) in (0..late.len()).step_by(x.len()).enumerate() {
        let row = w.row(from + i);
        prefetch::parts(&row, rows);
        for (j, x) in x.iter().enumerate() {
            add_product::<BITS>(&row, &mut scales, *x, &mut late, first + j);
        }
    }
    // SAFETY: as above.
    unsafe { late.finish() };
}

/// Adds the product of two rows to output `at`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn add_product<const BITS: usize>(
    row: &GroupedRow<'_>,
    scales: &mut Scales,
    a: ActivationRow<'_>,
    late: &mut Late<'_>,
    at: usize,
) {
    let (count, blocks) = (row.group_scale.len(), a.steps.len());
    let values = a.values;
    assert!(row.packed.len() >= count * 4 * BITS && row.selector.len() >= count.div_ceil(4));
    assert!(row.levels.bytes.len() * 64 == 2 * Layout::CURVES * (1 << BITS));
    assert!(blocks == count.div_ceil(GROUPS) && row.scale.len() == blocks && values.len() == blocks);
    assert!(at < late.len());
    for start in (0..blocks).step_by(BLOCKS) {
        // SAFETY: by the assertions above, the row has all groups that are named, with levels, and blocks for them.
        unsafe {
            if start % WIDENED == 0 {
                widen(&row.group_scale[start * GROUPS..], scales);
            }
            let four = Four::<BITS> { row, scales: &scales.0[start % WIDENED..][..BLOCKS], start, values };
            let groups = count - start * GROUPS;
            let lanes = [four.block(0, groups), four.block(1, groups), four.block(2, groups), four.block(3, groups)];
            let n = (blocks - start).min(BLOCKS);
            let unit = _mm_set1_ps(GroupLevels::unit(Width::of::<BITS>()));
            let units = _mm_mul_ps(first(row.scale.as_ptr().add(start), n), unit);
            late.add(at, lanes, [first(a.steps.as_ptr().add(start), n), units], n);
        }
    }
}

/// Widens the first scales, zeros after the last.
#[inline(always)]
unsafe fn widen(from: &[u8], scales: &mut Scales) {
    for (from, scales) in from.chunks(GROUPS).zip(&mut scales.0) {
        let scale = _mm256_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask(from.len()), from.as_ptr().cast()));
        let both = _mm256_or_si256(_mm256_slli_epi32::<8>(scale), _mm256_slli_epi32::<24>(scale));
        _mm256_storeu_si256(scales.as_mut_ptr().cast(), both);
    }
}

/// Four blocks of a row, starting at block `start`.
struct Four<'a, const BITS: usize> {
    row: &'a GroupedRow<'a>,
    scales: &'a [MaybeUninit<[i32; GROUPS]>],
    start: usize,
    values: &'a [Block],
}

impl<const BITS: usize> Four<'_, BITS> {
    /// The lanes of Σ w·a of the `b`th block, if the row has `groups` groups from the first of them on.
    ///
    /// # Safety
    /// The row has them, and their scales have been widened.
    #[inline(always)]
    unsafe fn block(&self, b: usize, groups: usize) -> __m512i {
        match groups.saturating_sub(b * GROUPS) {
            GROUPS.. => self.lanes(b, GROUPS),
            0 => _mm512_setzero_si512(),
            rest => self.last(b, rest),
        }
    }

    /// The lanes of a block that is not whole. Not inlined, so as not to be in the way of the others.
    ///
    /// # Safety
    /// That of [`lanes`](Self::lanes).
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn last(&self, b: usize, groups: usize) -> __m512i {
        self.lanes(b, groups)
    }

    /// The lanes of Σ w·a of `groups` groups of the `b`th block.
    ///
    /// # Safety
    /// The row has them, and their scales have been widened.
    #[inline(always)]
    unsafe fn lanes(&self, b: usize, groups: usize) -> __m512i {
        let mut sums = [_mm512_setzero_si512(); 2];
        let block = self.start + b;
        let codes = self.row.packed.as_ptr().wrapping_add(block * GROUPS * 4 * BITS);
        for g in 0..groups {
            in_order();
            let packed = codes.add(g * 4 * BITS);
            // Each cache line once: those that start here, if the block did at one.
            for line in (g * BITS).div_ceil(16)..((g + 1) * BITS).div_ceil(16) {
                prefetch::line(codes.wrapping_add(64 * line));
            }
            let scale = self.scales.get_unchecked(b).as_ptr().cast::<i32>().add(g);
            let curve = usize::from(self.row.selector.get_unchecked(2 * block + g / 4) >> (2 * (g % 4)) & 3);
            let tables = self.row.levels.bytes().add(2 * curve * (1 << BITS));
            let w = group::<BITS>(packed, tables, _mm512_set1_epi32(*scale));
            let a = self.values.get_unchecked(block).0.as_ptr().cast::<__m512i>().add(g);
            sums[g % 2] = _mm512_dpwssd_epi32(sums[g % 2], w, _mm512_loadu_si512(a));
        }
        _mm512_add_epi32(sums[0], sums[1])
    }
}

/// The weights of a group, in their order, whose low and high bytes of levels are at `tables`.
///
/// # Safety
/// 4·BITS bytes can be read at `packed`, and twice 2ᴮᴵᵀˢ at `tables`.
#[inline(always)]
pub(super) unsafe fn group<const BITS: usize>(packed: *const u8, tables: *const u8, scale: __m512i) -> __m512i {
    let table = |at: usize| _mm512_loadu_si512(tables.add(at).cast());
    let levels = match Width::of::<BITS>() {
        Width::W6 => {
            // Each 64 bits have the fields of four columns: four bits, and above these the bytes with their two bits.
            // Two loads and not one with a mask: that may wait for stores.
            let fours = _mm512_castsi128_si512(_mm_loadu_si128(packed.cast()));
            let twos = _mm512_castsi128_si512(_mm_loadl_epi64(packed.add(16).cast()));
            let places = load(&[0, 16, 1, 17, 2, 16, 3, 17, 0, 16, 1, 17, 2, 16, 3, 17]);
            let fields = _mm512_permutex2var_epi32(fours, places, twos);
            let low = _mm512_multishift_epi64_epi8(load(&FOURS), fields);
            let high = _mm512_multishift_epi64_epi8(load(&TWOS), fields);
            // The lower byte of a word finds the lower one of a level, the upper byte the upper one.
            let codes = _mm512_ternarylogic_epi32::<0xe4>(low, high, _mm512_set1_epi8(15));
            let upper = _mm512_set1_epi16(0x4000);
            let places = _mm512_ternarylogic_epi32::<0xea>(codes, _mm512_set1_epi8(0x3f), upper);
            _mm512_permutex2var_epi8(table(0), places, table(64))
        }
        Width::W8 => {
            // Codes are unsigned, and 128 stands for zero. Each level below zero is the negative of one above, except the
            // first, which is −1 and has no counterpart.
            let codes = _mm256_xor_si256(_mm256_loadu_si256(packed.cast()), _mm256_set1_epi8(i8::MIN));
            let magnitudes = _mm512_castsi256_si512(_mm256_abs_epi8(codes));
            let twice = _mm512_permutexvar_epi8(load(&TWICE), magnitudes);
            let low = _mm512_permutex2var_epi8(table(128), twice, table(192));
            let high = _mm512_permutex2var_epi8(table(256 + 128), twice, table(256 + 192));
            let levels = _mm512_mask_blend_epi8(0xaaaa_aaaa_aaaa_aaaa, low, high);
            let negative = _mm256_movepi8_mask(codes);
            let levels = _mm512_mask_sub_epi16(levels, negative, _mm512_setzero_si512(), levels);
            let first = _mm256_cmpeq_epi8_mask(codes, _mm256_set1_epi8(i8::MIN));
            _mm512_mask_mov_epi16(levels, first, _mm512_set1_epi16(-(LARGEST_WEIGHT as i16)))
        }
        Width::W3 | Width::W4 | Width::W5 => unreachable!("their levels are bytes"),
    };
    _mm512_mulhrs_epi16(levels, scale)
}

/// For each byte of two per column, the position of the eight bits that start with the column's field of four bits.
const FOURS: [u8; 64] = places(0, 4, 0);

/// The same for two bits, four bits lower: so the field comes to lie above four others.
const TWOS: [u8; 64] = places(32 - 4, 0, 2);

/// Four columns have a byte each of 64 bits, from bit `first` on; later columns are higher up in it.
const fn places(first: usize, per_sixteen: usize, per_eight: usize) -> [u8; 64] {
    let (mut places, mut i) = ([0; 64], 0);
    while i < 64 {
        let c = i / 2;
        places[i] = (first + 8 * (c % 4) + c / 16 * per_sixteen + c / 8 * per_eight) as u8;
        i += 1;
    }
    places
}

/// Each of 32 bytes twice.
const TWICE: [u8; 64] = {
    let (mut twice, mut i) = ([0; 64], 0);
    while i < 64 {
        twice[i] = i as u8 / 2;
        i += 1;
    }
    twice
};
