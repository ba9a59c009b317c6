//! Rows of groups whose levels are words: low and high bytes are looked up, put together and scaled, of 6-bit codes in two groups at a time.

// Functions that must be inlined cannot enable AVX-512 themselves, and are therefore unsafe throughout.
#![allow(unsafe_op_in_unsafe_fn)]

use core::{
    arch::{asm, x86_64::*},
    mem::MaybeUninit,
};

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
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,avx512vnni")]
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,avx512vnni")]
fn add_product<const BITS: usize>(
    row: &GroupedRow<'_>,
    scales: &mut Scales,
    a: ActivationRow<'_>,
    late: &mut Late<'_, [__m512i; BLOCKS]>,
    at: usize,
) {
    let (count, blocks) = (row.group_scale.len(), a.steps.len());
    let values = a.values;
    assert!(row.packed.len() >= count * 4 * BITS && row.selector.len() >= count.div_ceil(4));
    assert!(row.levels.bytes.len() * 64 == 2 * Layout::CURVES * (1 << BITS));
    assert!(blocks == count.div_ceil(GROUPS) && row.scale.len() == blocks && values.len() == blocks);
    assert!(at < late.len());
    let whole = count / (GROUPS * BLOCKS) * BLOCKS;
    // SAFETY: by the assertions above, the row has all groups that are named, with levels, and blocks for them.
    unsafe {
        for start in (0..whole).step_by(BLOCKS) {
            let four = Four::<BITS>::new(row, scales, start, values);
            let lanes = [four.lanes(0, GROUPS), four.lanes(1, GROUPS), four.lanes(2, GROUPS), four.lanes(3, GROUPS)];
            late.add(at, lanes, four.scales(a, BLOCKS), BLOCKS);
        }
        if whole < blocks {
            let four = Four::<BITS>::new(row, scales, whole, values);
            let groups = count - whole * GROUPS;
            let lanes = [four.block(0, groups), four.block(1, groups), four.block(2, groups), four.block(3, groups)];
            late.add(at, lanes, four.scales(a, blocks - whole), blocks - whole);
        }
    }
}

/// Widens the first scales, with zeros to the end of the last sixteen.
#[inline(always)]
unsafe fn widen(from: &[u8], scales: &mut Scales) {
    let (scales, _) = scales.0.as_chunks_mut::<2>();
    let (whole, rest) = from.as_chunks::<{ 2 * GROUPS }>();
    let to_both = |scale| _mm512_mullo_epi32(_mm512_cvtepu8_epi32(scale), _mm512_set1_epi32(0x0100_0100));
    for (from, scales) in whole.iter().zip(&mut *scales) {
        _mm512_storeu_si512(scales.as_mut_ptr().cast(), to_both(_mm_loadu_si128(from.as_ptr().cast())));
    }
    if let Some(scales) = scales.get_mut(whole.len()) {
        let from = _mm_maskz_loadu_epi8(mask(rest.len()), rest.as_ptr().cast());
        _mm512_storeu_si512(scales.as_mut_ptr().cast(), to_both(from));
    }
}

/// Four blocks of a row, starting at block `start`.
struct Four<'a, const BITS: usize> {
    row: &'a GroupedRow<'a>,
    scales: &'a [MaybeUninit<[i32; GROUPS]>],
    start: usize,
    values: &'a [Block],
}

impl<'a, const BITS: usize> Four<'a, BITS> {
    /// Four blocks, or the last ones, whose scales are widened if those before were of others.
    ///
    /// # Safety
    /// The machine has AVX-512.
    #[inline(always)]
    unsafe fn new(row: &'a GroupedRow<'a>, scales: &'a mut Scales, start: usize, values: &'a [Block]) -> Self {
        if start.is_multiple_of(WIDENED) {
            widen(&row.group_scale[start * GROUPS..], scales);
        }
        Self { row, scales: &scales.0[start % WIDENED..][..BLOCKS], start, values }
    }

    /// The steps and units of the first `n` blocks.
    ///
    /// # Safety
    /// There are so many.
    #[inline(always)]
    unsafe fn scales(&self, a: ActivationRow<'_>, n: usize) -> [__m128; 2] {
        let unit = _mm_set1_ps(GroupLevels::unit(Width::of::<BITS>()));
        let units = _mm_mul_ps(first(self.row.scale.as_ptr().add(self.start), n), unit);
        [first(a.steps.as_ptr().add(self.start), n), units]
    }

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
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,avx512vnni")]
    unsafe fn last(&self, b: usize, groups: usize) -> __m512i {
        self.lanes(b, groups)
    }

    /// The lanes of Σ w·a of `groups` groups of the `b`th block.
    ///
    /// # Safety
    /// The row has them, and their scales have been widened.
    #[inline(always)]
    unsafe fn lanes(&self, b: usize, groups: usize) -> __m512i {
        // Not a loop: the compiler may leave one as it is, with the sums in memory.
        let sums = self.two::<0>(b, groups, [_mm512_setzero_si512(); 2]);
        let sums = self.two::<2>(b, groups, sums);
        let sums = self.two::<4>(b, groups, sums);
        let sums = self.two::<6>(b, groups, sums);
        _mm512_add_epi32(sums[0], sums[1])
    }

    /// Adds the products of the `G`th and the next of `groups` groups of the `b`th block, if there are so many.
    ///
    /// # Safety
    /// The row has these groups, and their scales have been widened.
    #[inline(always)]
    unsafe fn two<const G: usize>(&self, b: usize, groups: usize, sums: [__m512i; 2]) -> [__m512i; 2] {
        if G >= groups {
            return sums;
        }
        in_order();
        let block = self.start + b;
        let codes = self.row.packed.as_ptr().wrapping_add(block * GROUPS * 4 * BITS);
        // Each cache line once: those that start here, if the block did at one.
        for line in const { (G * BITS).div_ceil(16) }..const { ((G + 2) * BITS).div_ceil(16) } {
            prefetch::line(codes.wrapping_add(64 * line));
        }
        // In place of one after the last, whose scale is zero, the last.
        let second = if G + 1 < groups { G + 1 } else { G };
        let two = [Group::new::<BITS>(self.row, block, G), Group::new::<BITS>(self.row, block, second)];
        let scales = self.scales.get_unchecked(b).as_ptr().cast::<i32>();
        let scales = [_mm512_set1_epi32(*scales.add(G)), _mm512_set1_epi32(*scales.add(G + 1))];
        let [first, second] = weights::<BITS>(two, scales);
        let a = self.values.get_unchecked(block).0.as_ptr().cast::<__m512i>().add(G);
        [add_products(sums[0], first, a), add_products(sums[1], second, a.add(1))]
    }
}

/// Adds the products of 32 words to 16 sums, each of two.
///
/// Of the intrinsic the compiler makes a product and an addition, and leaves the additions for later, when the registers no longer suffice: on
/// Zen 4 products of 6-bit codes then take 1.1 times as long.
///
/// # Safety
/// The activations can be read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,avx512vnni")]
unsafe fn add_products(mut sums: __m512i, weights: __m512i, a: *const __m512i) -> __m512i {
    asm!(
        "vpdpwssd {sums}, {weights}, zmmword ptr [{a}]",
        sums = inout(zmm_reg) sums,
        weights = in(zmm_reg) weights,
        a = in(reg) a,
        options(pure, readonly, nostack, preserves_flags),
    );
    sums
}

/// The weights of block `b`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,avx512vnni")]
pub(super) fn unpack<const BITS: usize>(row: &GroupedRow<'_>, b: usize, weights: &mut [[i16; 32]]) {
    let (from, count) = (b * GROUPS, row.group_scale.len());
    assert!(row.packed.len() >= count * 4 * BITS && row.selector.len() >= count.div_ceil(4));
    assert!(row.levels.bytes.len() * 64 == 2 * Layout::CURVES * (1 << BITS));
    let groups = count.saturating_sub(from);
    let scale = |g: usize| (u32::from(row.group_scale[from + g]) * 0x0100_0100).cast_signed();
    for (first, weights) in (0..groups).step_by(2).zip(weights.as_chunks_mut::<2>().0) {
        let second = (first + 1).min(groups - 1);
        let scales = [_mm512_set1_epi32(scale(first)), _mm512_set1_epi32(scale(second))];
        // SAFETY: the row has these groups, and there are levels for each curve; each of `weights` is 32 words.
        unsafe {
            let two = [Group::new::<BITS>(row, b, first), Group::new::<BITS>(row, b, second)];
            let of_groups = self::weights::<BITS>(two, scales);
            _mm512_storeu_si512(weights[0].as_mut_ptr().cast(), of_groups[0]);
            _mm512_storeu_si512(weights[1].as_mut_ptr().cast(), of_groups[1]);
        }
    }
}

/// The codes of a group, and the low and high bytes of the levels of its curve.
#[derive(Clone, Copy)]
struct Group {
    packed: *const u8,
    tables: *const u8,
}

impl Group {
    /// A group of a block of a row.
    ///
    /// # Safety
    /// The row has it, and there are levels for each curve.
    #[inline(always)]
    unsafe fn new<const BITS: usize>(row: &GroupedRow<'_>, block: usize, g: usize) -> Self {
        let curve = usize::from(row.selector.get_unchecked(2 * block + g / 4) >> (2 * (g % 4)) & 3);
        Self {
            packed: row.packed.as_ptr().add((block * GROUPS + g) * 4 * BITS),
            tables: row.levels.bytes().add(2 * curve * (1 << BITS)),
        }
    }
}

/// The weights of two groups, in their order.
///
/// # Safety
/// The groups have codes of so many bits.
#[inline(always)]
unsafe fn weights<const BITS: usize>([first, second]: [Group; 2], scales: [__m512i; 2]) -> [__m512i; 2] {
    match Width::of::<BITS>() {
        Width::W6 => of_6_bits([first, second], scales),
        Width::W8 => {
            let first = of_8_bits(first, scales[0]);
            in_order();
            [first, of_8_bits(second, scales[1])]
        }
        Width::W3 | Width::W4 | Width::W5 => unreachable!("their levels are bytes"),
    }
}

/// The weights of two groups with codes of six bits, in their order.
///
/// # Safety
/// The groups have codes of so many bits.
#[inline(always)]
unsafe fn of_6_bits([first, second]: [Group; 2], scales: [__m512i; 2]) -> [__m512i; 2] {
    // Eight columns of the first group, the same of the second, and so on: fields of four bits, and those of two above them.
    let fours = _mm512_castsi128_si512(_mm_loadu_si128(first.packed.cast()));
    let others = _mm512_castsi128_si512(_mm_loadu_si128(second.packed.cast()));
    let fours = _mm512_permutex2var_epi64(fours, load(&[0_i64, 8, 1, 9, 0, 8, 1, 9]), others);
    let fours = _mm512_srlv_epi64(fours, load(&[0_i64, 0, 0, 0, 4, 4, 4, 4]));
    let twos = _mm512_broadcastq_epi64(_mm_loadl_epi64(first.packed.add(16).cast()));
    let twos = _mm512_mask_broadcastq_epi64(twos, 0b1010_1010, _mm_loadl_epi64(second.packed.add(16).cast()));
    let twos = _mm512_multishift_epi64_epi8(load(&TWOS), twos);
    let codes = _mm512_ternarylogic_epi32::<0xe4>(fours, twos, _mm512_set1_epi8(15));
    let [tables, others] = [first.tables, second.tables];
    let (low, high) = (look_up(codes, [tables, others]), look_up(codes, [tables.add(64), others.add(64)]));
    [
        _mm512_mulhrs_epi16(_mm512_unpacklo_epi8(low, high), scales[0]),
        _mm512_mulhrs_epi16(_mm512_unpackhi_epi8(low, high), scales[1]),
    ]
}

/// The bytes of codes in two tables of 64, eight and eight. Only the lower six bits of a code matter.
///
/// # Safety
/// The tables can be read.
#[inline(always)]
unsafe fn look_up(codes: __m512i, [first, second]: [*const u8; 2]) -> __m512i {
    let of_first = _mm512_permutexvar_epi8(codes, _mm512_loadu_si512(first.cast()));
    _mm512_mask_permutexvar_epi8(of_first, 0xff00_ff00_ff00_ff00, codes, _mm512_loadu_si512(second.cast()))
}

/// The weights of a group with codes of eight bits, in their order.
///
/// # Safety
/// The group has codes of so many bits.
#[inline(always)]
unsafe fn of_8_bits(group: Group, scale: __m512i) -> __m512i {
    let table = |at: usize| _mm512_loadu_si512(group.tables.add(at).cast());
    // Codes are unsigned, and 128 stands for zero. Each level below zero is the negative of one above, except the
    // first, which is −1 and has no counterpart.
    let codes = _mm256_xor_si256(_mm256_loadu_si256(group.packed.cast()), _mm256_set1_epi8(i8::MIN));
    let magnitudes = _mm256_abs_epi8(codes);
    let twice = _mm512_permutexvar_epi8(load(&TWICE), _mm512_castsi256_si512(magnitudes));
    let low = _mm512_permutex2var_epi8(table(128), twice, table(192));
    let high = _mm512_permutex2var_epi8(table(256 + 128), twice, table(256 + 192));
    let levels = _mm512_mask_blend_epi8(0xaaaa_aaaa_aaaa_aaaa, low, high);
    let negative = _mm256_movepi8_mask(codes);
    let levels = _mm512_mask_sub_epi16(levels, negative, _mm512_setzero_si512(), levels);
    let first = _mm256_cmpeq_epi8_mask(codes, _mm256_set1_epi8(i8::MIN));
    let levels = _mm512_mask_mov_epi16(levels, first, _mm512_set1_epi16(-(LARGEST_WEIGHT as i16)));
    _mm512_mulhrs_epi16(levels, scale)
}

/// For each byte, the position of eight bits: of the eight columns of a group that each 64 bits have, as of so many of the other group, the
/// fields of two bits, four bits lower, so that they come to lie above four others.
const TWOS: [u8; 64] = {
    let (mut places, mut i) = ([0; 64], 0);
    while i < 64 {
        places[i] = ((8 * (i % 8) + i / 16 * 2 + 64 - 4) % 64) as u8;
        i += 1;
    }
    places
};

/// Each of 32 bytes twice.
const TWICE: [u8; 64] = {
    let (mut twice, mut i) = ([0; 64], 0);
    while i < 64 {
        twice[i] = i as u8 / 2;
        i += 1;
    }
    twice
};
