//! Rows of groups whose levels are bytes. A weight is a level times the scale of its group, so products with levels are summed
//! within a group before they are scaled. Two groups are multiplied at a time, one in each 128-bit lane.
//!
//! Levels are looked up 128 too large, so as to be unsigned: even and odd bytes then become words by a mask and a shift. What that
//! adds to the products of a group depends on the sum of its activations alone, and is taken off again. Sums may wrap around on the
//! way; the total of a block does not.

// Functions that must be inlined cannot enable AVX2 themselves, and are therefore unsafe throughout.
#![allow(unsafe_op_in_unsafe_fn)]

use core::arch::x86_64::*;

use super::lanes::{BLOCKS, totals};
use crate::{
    Layout, Width,
    kernel::{
        activations::{ActivationRow, Activations, Block},
        levels::GroupLevels,
        prefetch,
        row::{GroupedMatrix, GroupedRow},
        simd::in_order,
    },
};

/// How levels are multiplied by activations, which have been [paired](Activations::pair) for it.
pub(super) trait Multiply {
    /// The lanes of the products of two groups, of which `levels` are those of the first sixteen columns of each, then of the others.
    ///
    /// # Safety
    /// Four vectors of activations can be read at `a`, and the machine has the instructions.
    unsafe fn products(levels: [__m256i; 2], a: *const __m256i) -> __m256i;

    /// [`product`], for these instructions.
    ///
    /// # Safety
    /// The machine has them.
    unsafe fn product<const BITS: usize>(of: &Product<'_>) -> f32;
}

/// A row of weights, and one of activations to multiply it by.
pub(super) struct Product<'a> {
    tables: &'a Tables,
    row: &'a GroupedRow<'a>,
    a: ActivationRow<'a>,
}

/// As words: even and odd columns apart.
pub(super) struct Words;

/// As bytes, by the instructions of AVX-VNNI: activations are split into a high and a low byte.
pub(super) struct Bytes;

impl Multiply for Words {
    #[inline(always)]
    unsafe fn products([low, high]: [__m256i; 2], a: *const __m256i) -> __m256i {
        let mask = _mm256_set1_epi16(0xff);
        let first = _mm256_madd_epi16(_mm256_and_si256(low, mask), _mm256_load_si256(a));
        let second = _mm256_madd_epi16(_mm256_srli_epi16::<8>(low), _mm256_load_si256(a.add(1)));
        let third = _mm256_madd_epi16(_mm256_and_si256(high, mask), _mm256_load_si256(a.add(2)));
        let fourth = _mm256_madd_epi16(_mm256_srli_epi16::<8>(high), _mm256_load_si256(a.add(3)));
        _mm256_add_epi32(_mm256_add_epi32(first, second), _mm256_add_epi32(third, fourth))
    }

    // A function of its own: among the loops around it, the registers would not suffice.
    #[inline(never)]
    #[target_feature(enable = "avx2")]
    unsafe fn product<const BITS: usize>(of: &Product<'_>) -> f32 {
        product::<Self, BITS>(of)
    }
}

impl Multiply for Bytes {
    #[inline(always)]
    unsafe fn products([low, high]: [__m256i; 2], a: *const __m256i) -> __m256i {
        let zero = _mm256_setzero_si256();
        let upper = _mm256_dpbusd_avx_epi32(zero, low, _mm256_load_si256(a));
        let lower = _mm256_dpbusd_avx_epi32(zero, low, _mm256_load_si256(a.add(1)));
        let upper = _mm256_dpbusd_avx_epi32(upper, high, _mm256_load_si256(a.add(2)));
        let lower = _mm256_dpbusd_avx_epi32(lower, high, _mm256_load_si256(a.add(3)));
        _mm256_add_epi32(lower, _mm256_slli_epi32::<8>(upper))
    }

    #[inline(never)]
    #[target_feature(enable = "avx2,avxvnni")]
    unsafe fn product<const BITS: usize>(of: &Product<'_>) -> f32 {
        product::<Self, BITS>(of)
    }
}

/// Multiplies rows of weights, starting at row `from`, by each row of `x`.
///
/// # Safety
/// The machine has the instructions of `M`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn gemv<M: Multiply, const BITS: usize>(
    w: &GroupedMatrix<'_>,
    x: &Activations,
    from: usize,
    out: &mut [f32],
) {
    let (tables, rows) = (Tables::new(BITS, &w.levels.signed), prefetch::rows(w.row(from).packed));
    for (r, out) in (from..).zip(out.chunks_exact_mut(x.rows())) {
        let row = w.row(r);
        prefetch::parts(&row, rows);
        for (j, y) in out.iter_mut().enumerate() {
            *y = M::product::<BITS>(&Product { tables: &tables, row: &row, a: x.row(j) });
        }
    }
}

/// Levels, 128 too large: for each two curves, sixteen of the first and sixteen of the second; then, where there are more, the next
/// sixteen of both.
#[repr(C, align(64))]
pub(super) struct Tables([[[u8; 16]; 2]; 32]);

impl Tables {
    fn new(bits: usize, levels: &[i8; 128]) -> Self {
        let mut tables = [[[0; 16]; 2]; 32];
        for (n, tables) in tables.iter_mut().enumerate() {
            for (curve, table) in [n & 3, n >> 2 & 3].into_iter().zip(tables) {
                let levels = &levels[(curve << bits) + 16 * (n >> 4)..][..16];
                for (i, to) in table.iter_mut().enumerate() {
                    // Codes of 3 bits have their third bit in the place of the fourth.
                    let level = levels[if bits == 3 { i & 3 | i >> 1 & 4 } else { i }];
                    *to = level.cast_unsigned() ^ 0x80;
                }
            }
        }
        Self(tables)
    }

    /// The tables of two groups, of which `selectors` has the curves.
    #[inline(always)]
    unsafe fn of(&self, selectors: usize, half: usize) -> __m256i {
        _mm256_load_si256(self.0.as_ptr().cast::<__m256i>().add((selectors & 15) + 16 * half))
    }
}

/// The product of two rows, of which the blocks are added in their order.
///
/// # Safety
/// The machine has the instructions of `M`.
#[inline(always)]
unsafe fn product<M: Multiply, const BITS: usize>(of: &Product<'_>) -> f32 {
    let &Product { tables, row, a } = of;
    let (count, blocks) = (row.group_scale.len(), a.steps.len());
    assert!(row.packed.len() >= count * 4 * BITS && row.selector.len() >= count.div_ceil(4));
    assert!(blocks == count.div_ceil(Layout::SUPER) && row.scale.len() == blocks);
    assert!(a.values.len() == blocks && a.sums.len() == blocks);
    let (whole, mut sum) = (count / Layout::SUPER, 0.0);
    // SAFETY: by the assertions above, the row has all groups that are named, and blocks for them; and this function enables what
    // these need.
    unsafe {
        for i in 0..whole / BLOCKS {
            let at = Blocks::<BITS>::at(row, a, BLOCKS * i);
            for line in 0..(BLOCKS * Layout::SUPER * 4 * BITS) / 64 {
                prefetch::line(at.codes.wrapping_add(64 * line));
            }
            let lanes = [
                at.whole::<M, 0>(tables),
                at.whole::<M, 1>(tables),
                at.whole::<M, 2>(tables),
                at.whole::<M, 3>(tables),
            ];
            sum = added(sum, lanes, at.scales());
        }
        let first = whole / BLOCKS * BLOCKS;
        if first < blocks {
            let (mut lanes, mut scales) = ([_mm256_setzero_si256(); BLOCKS], [0.0; BLOCKS]);
            for b in first..blocks {
                let at = Blocks::<BITS>::at(row, a, b);
                lanes[b - first] = if b < whole { at.whole::<M, 0>(tables) } else { at.part::<M>(row, tables) };
                scales[b - first] = *at.steps * (*at.units * Blocks::<BITS>::UNIT);
            }
            // Zeros change nothing: a sum is never −0, as it starts at +0.
            sum = added(sum, lanes, _mm_loadu_ps(scales.as_ptr()));
        }
    }
    sum
}

/// Adds the totals of four blocks, times the scale of each, one after the other.
#[inline]
#[target_feature(enable = "avx2")]
fn added(sum: f32, lanes: [__m256i; BLOCKS], scales: __m128) -> f32 {
    let terms = _mm_mul_ps(_mm_cvtepi32_ps(totals(lanes)), scales);
    let sum = _mm_add_ss(_mm_set_ss(sum), terms);
    let sum = _mm_add_ss(sum, _mm_movehdup_ps(terms));
    let sum = _mm_add_ss(sum, _mm_movehl_ps(terms, terms));
    _mm_cvtss_f32(_mm_add_ss(sum, _mm_shuffle_ps::<3>(terms, terms)))
}

/// Where blocks of a row start, and activations for them.
#[derive(Clone, Copy)]
struct Blocks<const BITS: usize> {
    codes: *const u8,
    group_scales: *const u8,
    selectors: *const u8,
    units: *const f32,
    values: *const Block,
    sums: *const [i32; Layout::SUPER],
    steps: *const f32,
}

impl<const BITS: usize> Blocks<BITS> {
    /// What an integer weight of 1 stands for, under a super-block scale of 1.
    const UNIT: f32 = GroupLevels::unit(Width::of::<BITS>());

    /// From block `b` on.
    ///
    /// # Safety
    /// The row has such a block.
    #[inline(always)]
    unsafe fn at(row: &GroupedRow<'_>, a: ActivationRow<'_>, b: usize) -> Self {
        Self {
            codes: row.packed.as_ptr().add(b * Layout::SUPER * 4 * BITS),
            group_scales: row.group_scale.as_ptr().add(b * Layout::SUPER),
            selectors: row.selector.as_ptr().add(b * Layout::SUPER / 4),
            units: row.scale.as_ptr().add(b),
            values: a.values.as_ptr().add(b),
            sums: a.sums.as_ptr().add(b),
            steps: a.steps.as_ptr().add(b),
        }
    }

    /// step·unit of four blocks.
    #[inline(always)]
    unsafe fn scales(&self) -> __m128 {
        let units = _mm_mul_ps(_mm_loadu_ps(self.units), _mm_set1_ps(Self::UNIT));
        _mm_mul_ps(_mm_loadu_ps(self.steps), units)
    }

    /// The lanes of Σ w·a of the `B`th block.
    #[inline(always)]
    unsafe fn whole<M: Multiply, const B: usize>(&self, tables: &Tables) -> __m256i {
        let scales = self.group_scales.add(B * Layout::SUPER).cast::<u64>().read_unaligned();
        let selectors = self.selectors.add(2 * B).cast::<u16>().read_unaligned();
        let (scales, sum) = self.excess::<B>(scales);
        let sum = _mm256_add_epi32(sum, self.pair::<M, B, 0>(tables, scales, selectors));
        let sum = _mm256_add_epi32(sum, self.pair::<M, B, 1>(tables, scales, selectors));
        let sum = _mm256_add_epi32(sum, self.pair::<M, B, 2>(tables, scales, selectors));
        _mm256_add_epi32(sum, self.pair::<M, B, 3>(tables, scales, selectors))
    }

    /// The lanes of Σ w·a of the last block of a row, which has fewer than eight groups.
    ///
    /// # Safety
    /// It is the first of these blocks.
    #[inline(always)]
    unsafe fn part<M: Multiply>(&self, row: &GroupedRow<'_>, tables: &Tables) -> __m256i {
        let all = row.group_scale;
        let groups = all.len() % Layout::SUPER;
        // Groups beyond the row's end have a scale of zero.
        let scales = match all.last_chunk() {
            Some(last) => u64::from_le_bytes(*last) >> (8 * (Layout::SUPER - groups)),
            None => all.iter().rev().fold(0, |scales, scale| scales << 8 | u64::from(*scale)),
        };
        let selectors = &row.selector[(all.len() - groups) / 4..all.len().div_ceil(4)];
        let selectors = selectors.iter().rev().fold(0, |selectors, four| selectors << 8 | u16::from(*four));
        let mut codes = [[0_u8; Layout::SUPER * 4]; BITS];
        let at = if BITS == 3 || groups % 2 == 1 {
            let from = core::slice::from_raw_parts(self.codes, groups * 4 * BITS);
            codes.as_flattened_mut()[..from.len()].copy_from_slice(from);
            Self { codes: codes.as_ptr().cast(), ..*self }
        } else {
            *self
        };
        let (scales, mut sum) = at.excess::<0>(scales);
        sum = _mm256_add_epi32(sum, at.pair::<M, 0, 0>(tables, scales, selectors));
        if groups > 2 {
            sum = _mm256_add_epi32(sum, at.pair::<M, 0, 1>(tables, scales, selectors));
        }
        if groups > 4 {
            sum = _mm256_add_epi32(sum, at.pair::<M, 0, 2>(tables, scales, selectors));
        }
        if groups > 6 {
            sum = _mm256_add_epi32(sum, at.pair::<M, 0, 3>(tables, scales, selectors));
        }
        sum
    }

    /// The scale of the first group of each pair in the `B`th block, then of the second; and what is to be added to their products.
    #[inline(always)]
    unsafe fn excess<const B: usize>(&self, scales: u64) -> (__m256i, __m256i) {
        let places = _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, -1, -1, -1, -1, -1, -1, -1, -1);
        let scales = _mm_shuffle_epi8(_mm_cvtsi64_si128(scales.cast_signed()), places);
        let scales = _mm256_cvtepi8_epi32(scales);
        (scales, _mm256_mullo_epi32(scales, _mm256_loadu_si256(self.sums.add(B).cast())))
    }

    /// The lanes of Σ w·a of the `I`th two groups of the `B`th block.
    #[inline(always)]
    unsafe fn pair<M: Multiply, const B: usize, const I: usize>(
        &self,
        tables: &Tables,
        scales: __m256i,
        selectors: u16,
    ) -> __m256i {
        in_order();
        let selectors = usize::from(selectors >> (4 * I));
        let levels = levels::<BITS, I>(self.codes.add((4 * B + I) * 8 * BITS), tables, selectors);
        let products = M::products(levels, self.values.add(B).cast::<__m256i>().add(4 * I));
        let scales = match I {
            0 => _mm256_shuffle_epi32::<0b00_00_00_00>(scales),
            1 => _mm256_shuffle_epi32::<0b01_01_01_01>(scales),
            2 => _mm256_shuffle_epi32::<0b10_10_10_10>(scales),
            _ => _mm256_shuffle_epi32::<0b11_11_11_11>(scales),
        };
        _mm256_mullo_epi32(products, scales)
    }
}

/// The levels of the `I`th two groups of a block: of the first 16 columns of each, and of the others.
///
/// # Safety
/// All codes of the block can be read, of which `packed` is where these groups start.
#[inline(always)]
unsafe fn levels<const BITS: usize, const I: usize>(
    packed: *const u8,
    tables: &Tables,
    selectors: usize,
) -> [__m256i; 2] {
    match Width::of::<BITS>() {
        Width::W3 => {
            // Eight bytes of 2-bit fields and four of 1-bit fields, twice: 24 of the 32 that are loaded, the first or the last of them
            // so that all are of the block.
            let skipped = if I == 0 { 0 } else { 2 };
            let all = _mm256_loadu_si256(packed.wrapping_sub(4 * skipped as usize).cast());
            let twos = _mm256_setr_epi32(0, 1, 0, 1, 3, 4, 3, 4);
            let twos = _mm256_permutevar8x32_epi32(all, _mm256_add_epi32(twos, _mm256_set1_epi32(skipped)));
            let twos = _mm256_srlv_epi64(twos, _mm256_setr_epi64x(0, 2, 0, 2));
            let ones = _mm256_setr_epi32(2, 2, 2, 2, 5, 5, 5, 5);
            let ones = _mm256_permutevar8x32_epi32(all, _mm256_add_epi32(ones, _mm256_set1_epi32(skipped)));
            let ones = _mm256_sllv_epi32(ones, _mm256_setr_epi32(3, 2, 1, 0, 3, 2, 1, 0));
            let twos = _mm256_and_si256(twos, _mm256_set1_epi8(0x33));
            let codes = _mm256_or_si256(twos, _mm256_and_si256(ones, _mm256_set1_epi8(0x88_u8.cast_signed())));
            look_up(tables.of(selectors, 0), halves(codes))
        }
        Width::W4 => look_up(tables.of(selectors, 0), halves(_mm256_loadu_si256(packed.cast()))),
        Width::W5 => {
            // Sixteen bytes of 4-bit fields and four of 1-bit fields, twice.
            let fours = halves(_mm256_loadu2_m128i(packed.add(20).cast(), packed.cast()));
            let all = _mm256_loadu_si256(packed.add(8).cast());
            let ones = _mm256_permutevar8x32_epi32(all, _mm256_setr_epi32(2, 2, 2, 2, 7, 7, 7, 7));
            // As the highest bit of each column's byte: that of the first columns is among the lowest four.
            let first = _mm256_sllv_epi32(ones, _mm256_setr_epi32(7, 6, 5, 4, 7, 6, 5, 4));
            let last = _mm256_sllv_epi32(ones, _mm256_setr_epi32(3, 2, 1, 0, 3, 2, 1, 0));
            let below = look_up(tables.of(selectors, 0), fours);
            let above = look_up(tables.of(selectors, 1), fours);
            [_mm256_blendv_epi8(below[0], above[0], first), _mm256_blendv_epi8(below[1], above[1], last)]
        }
        Width::W6 | Width::W8 => unreachable!("their levels are words"),
    }
}

/// The lower and the upper half of each byte.
#[inline(always)]
unsafe fn halves(bytes: __m256i) -> [__m256i; 2] {
    let mask = _mm256_set1_epi8(15);
    [_mm256_and_si256(bytes, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask)]
}

#[inline(always)]
unsafe fn look_up(table: __m256i, [low, high]: [__m256i; 2]) -> [__m256i; 2] {
    [_mm256_shuffle_epi8(table, low), _mm256_shuffle_epi8(table, high)]
}
