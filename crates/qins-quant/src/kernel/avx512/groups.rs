//! Rows whose weights share a scale and a curve in groups of 32.

// Functions that must be inlined cannot enable AVX-512 themselves, and are therefore unsafe throughout.
#![allow(unsafe_op_in_unsafe_fn)]

use core::{arch::x86_64::*, mem::MaybeUninit};

use super::lanes::{halves_of, lanes_added};
use crate::{
    Layout, Width,
    kernel::{
        activations::BLOCK,
        row::GroupedRow,
        simd::{PREFETCH_DISTANCE, prefetch},
    },
};

/// Groups per block.
const GROUPS: usize = Layout::SUPER;

/// Σ w·a of each block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn totals<const BITS: usize>(row: &GroupedRow<'_>, a: &[[i16; BLOCK]], totals: &mut [i32]) {
    let mut groups = Groups::<BITS>::new(row);
    for (i, (totals, a)) in totals.chunks_mut(WIDENED).zip(a.chunks(WIDENED)).enumerate() {
        let first = i * WIDENED;
        groups.widen(first, totals.len());
        let whole = (groups.count / GROUPS).saturating_sub(first).min(totals.len());
        let mut b = 0;
        // Four blocks at a time, so that their lanes can be added together.
        while b + 4 <= whole {
            // SAFETY: these blocks have all their groups; four totals are written.
            unsafe {
                let a = &a[b..b + 4];
                let lanes = [
                    groups.lanes(first, first + b, GROUPS, &a[0]),
                    groups.lanes(first, first + b + 1, GROUPS, &a[1]),
                    groups.lanes(first, first + b + 2, GROUPS, &a[2]),
                    groups.lanes(first, first + b + 3, GROUPS, &a[3]),
                ];
                let pairs = [_mm256_hadd_epi32(lanes[0], lanes[1]), _mm256_hadd_epi32(lanes[2], lanes[3])];
                let fours = _mm256_hadd_epi32(pairs[0], pairs[1]);
                let sums = _mm_add_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256::<1>(fours));
                _mm_storeu_si128(totals[b..b + 4].as_mut_ptr().cast(), sums);
            }
            b += 4;
        }
        for (b, (total, a)) in totals.iter_mut().zip(a).enumerate().skip(b) {
            let count = groups.count.saturating_sub((first + b) * GROUPS).min(GROUPS);
            // SAFETY: the block has `count` groups.
            *total = lanes_added(unsafe { groups.lanes(first, first + b, count, a) });
        }
    }
}

/// The weights of block `b`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn unpack<const BITS: usize>(row: &GroupedRow<'_>, b: usize, words: &mut [[i16; 32]]) {
    let mut groups = Groups::<BITS>::new(row);
    groups.widen(b, 1);
    let count = groups.count.saturating_sub(b * GROUPS).min(GROUPS);
    for (g, words) in words.iter_mut().enumerate().take(count) {
        // SAFETY: the block has `count` groups, each of which is twice 16 words.
        unsafe {
            let [low, high] = groups.group(b, b, g);
            _mm256_storeu_si256(words.as_mut_ptr().cast(), low);
            _mm256_storeu_si256(words.as_mut_ptr().cast::<__m256i>().add(1), high);
        }
    }
}

/// Blocks whose scales are widened at a time. Many, since loading a scale right after a wide store of it is slow.
const WIDENED: usize = 32;

/// The groups of a row whose parts have been checked to have the right lengths.
struct Groups<'a, const BITS: usize> {
    row: &'a GroupedRow<'a>,
    count: usize,
    /// 256 times the scale of each group of some blocks, in both halves of 32 bits.
    scales: MaybeUninit<[[i32; GROUPS]; WIDENED]>,
}

impl<'a, const BITS: usize> Groups<'a, BITS> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn new(row: &'a GroupedRow<'a>) -> Self {
        let count = row.group_scale.len();
        assert!(row.packed.len() >= count * 4 * BITS && row.selector.len() >= count.div_ceil(4));
        assert!(row.levels.words.len() == Layout::CURVES * 16.max(1 << BITS));
        Self { row, count, scales: MaybeUninit::uninit() }
    }

    /// Widens the scales of `blocks` blocks, [`WIDENED`] at most, starting at block `first`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn widen(&mut self, first: usize, blocks: usize) {
        assert!(blocks <= WIDENED);
        for b in 0..blocks {
            let groups = self.count.saturating_sub((first + b) * GROUPS).min(GROUPS);
            // SAFETY: only the scales of the row are read; 32 bytes are written within the array.
            unsafe {
                let from = self.row.group_scale.as_ptr().wrapping_add((first + b) * GROUPS);
                let scales = _mm256_cvtepu8_epi32(_mm_maskz_loadu_epi8(((1_u32 << groups) - 1) as u16, from.cast()));
                let both = _mm256_or_si256(_mm256_slli_epi32::<8>(scales), _mm256_slli_epi32::<24>(scales));
                _mm256_storeu_si256(self.scales.as_mut_ptr().cast::<__m256i>().add(b), both);
            }
        }
    }

    /// The weights of group `g` of block `b`, in their order.
    ///
    /// # Safety
    /// The row has this group, and the last call of [`widen`](Self::widen) started at block `first` and included block `b`.
    #[inline(always)]
    unsafe fn group(&self, first: usize, b: usize, g: usize) -> [__m256i; 2] {
        // `new` has checked the lengths of all parts.
        let packed = self.row.packed.as_ptr().add((b * GROUPS + g) * 4 * BITS);
        if g.is_multiple_of(64 / (4 * BITS)) {
            prefetch(packed.wrapping_add(PREFETCH_DISTANCE));
        }
        let scale = *self.scales.as_ptr().cast::<i32>().add((b - first) * GROUPS + g);
        let selector = *self.row.selector.as_ptr().add(2 * b + g / 4);
        let curve = usize::from(selector >> (2 * (g % 4)) & 3);
        group::<BITS>(packed, self.row.levels.words.as_ptr().add(curve * 16.max(1 << BITS)), scale)
    }

    /// The lanes of Σ w·a of `groups` groups of block `b`.
    ///
    /// # Safety
    /// The conditions of [`group`](Self::group) hold for each of them.
    #[inline(always)]
    unsafe fn lanes(&self, first: usize, b: usize, groups: usize, a: &[i16; BLOCK]) -> __m256i {
        let mut sums = [_mm256_setzero_si256(); 4];
        for g in 0..groups {
            let [low, high] = self.group(first, b, g);
            // A block is 8 groups of twice 16 columns.
            let a = a.as_ptr().cast::<__m256i>().add(2 * g);
            let sums = &mut sums[2 * (g % 2)..][..2];
            sums[0] = _mm256_dpwssd_epi32(sums[0], low, _mm256_loadu_si256(a));
            sums[1] = _mm256_dpwssd_epi32(sums[1], high, _mm256_loadu_si256(a.add(1)));
        }
        _mm256_add_epi32(_mm256_add_epi32(sums[0], sums[1]), _mm256_add_epi32(sums[2], sums[3]))
    }
}

/// The weights of a group.
///
/// # Safety
/// 4·BITS bytes can be read at `packed`, and max(16, 2ᴮᴵᵀˢ) words at `levels`.
#[inline(always)]
unsafe fn group<const BITS: usize>(packed: *const u8, levels: *const i16, scale: i32) -> [__m256i; 2] {
    match Width::of::<BITS>() {
        Width::W3 => {
            // The table has the eight levels twice, so the fourth bit of a code does not matter.
            let (low, high, levels) = (twos(packed), ones(packed.add(8)), scaled(levels, scale));
            let codes = [
                join::<3>(low[0], _mm256_slli_epi16::<2>(high[0])),
                join::<3>(low[1], _mm256_slli_epi16::<2>(high[1])),
            ];
            [_mm256_permutexvar_epi16(codes[0], levels), _mm256_permutexvar_epi16(codes[1], levels)]
        }
        Width::W4 => {
            let (codes, levels) = (fours(packed), scaled(levels, scale));
            [_mm256_permutexvar_epi16(codes[0], levels), _mm256_permutexvar_epi16(codes[1], levels)]
        }
        Width::W5 => {
            let (low, high) = (fours(packed), ones(packed.add(16)));
            let levels = [scaled(levels, scale), scaled(levels.add(16), scale)];
            let codes = [
                join::<15>(low[0], _mm256_slli_epi16::<4>(high[0])),
                join::<15>(low[1], _mm256_slli_epi16::<4>(high[1])),
            ];
            [
                _mm256_permutex2var_epi16(levels[0], codes[0], levels[1]),
                _mm256_permutex2var_epi16(levels[0], codes[1], levels[1]),
            ]
        }
        Width::W6 => {
            let (low, high) = (fours(packed), twos(packed.add(16)));
            let codes = [
                join::<15>(low[0], _mm256_slli_epi16::<4>(high[0])),
                join::<15>(low[1], _mm256_slli_epi16::<4>(high[1])),
            ];
            let codes = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(codes[0]), codes[1]);
            halves_of(_mm512_mulhrs_epi16(sixty_four(codes, levels), _mm512_set1_epi32(scale)))
        }
        Width::W8 => {
            let codes = _mm512_cvtepu8_epi16(_mm256_loadu_si256(packed.cast()));
            let odd = _mm512_test_epi16_mask(codes, _mm512_set1_epi16(0x40));
            let upper = _mm512_test_epi16_mask(codes, _mm512_set1_epi16(0x80));
            let quarters = [
                sixty_four(codes, levels),
                sixty_four(codes, levels.add(64)),
                sixty_four(codes, levels.add(128)),
                sixty_four(codes, levels.add(192)),
            ];
            let halves = [
                _mm512_mask_mov_epi16(quarters[0], odd, quarters[1]),
                _mm512_mask_mov_epi16(quarters[2], odd, quarters[3]),
            ];
            let level = _mm512_mask_mov_epi16(halves[0], upper, halves[1]);
            halves_of(_mm512_mulhrs_epi16(level, _mm512_set1_epi32(scale)))
        }
    }
}

/// 16 levels, times the scale.
#[inline(always)]
unsafe fn scaled(levels: *const i16, scale: i32) -> __m256i {
    _mm256_mulhrs_epi16(_mm256_loadu_si256(levels.cast()), _mm256_set1_epi32(scale))
}

/// Looks up words in 64 levels, by their lowest six bits.
#[inline(always)]
unsafe fn sixty_four(codes: __m512i, levels: *const i16) -> __m512i {
    let [low, high] = [_mm512_loadu_si512(levels.cast()), _mm512_loadu_si512(levels.add(32).cast())];
    _mm512_permutex2var_epi16(low, codes, high)
}

// The fields of a plane of codes: each word has the field of its column in its lowest bits, and above it further bits of the
// same byte.

/// The fields of a plane of 4-bit fields, 16 bytes.
#[inline(always)]
unsafe fn fours(plane: *const u8) -> [__m256i; 2] {
    let words = _mm256_cvtepu8_epi16(_mm_loadu_si128(plane.cast()));
    [words, _mm256_srli_epi16::<4>(words)]
}

/// The fields of a plane of 2-bit fields, 8 bytes.
#[inline(always)]
unsafe fn twos(plane: *const u8) -> [__m256i; 2] {
    let words = _mm256_cvtepu8_epi16(_mm_set1_epi64x(plane.cast::<i64>().read_unaligned()));
    let places = _mm256_setr_epi64x(0, 0, 0x0002_0002_0002_0002, 0x0002_0002_0002_0002);
    let low = _mm256_srlv_epi16(words, places);
    [low, _mm256_srli_epi16::<4>(low)]
}

/// The fields of a plane of 1-bit fields, 4 bytes.
#[inline(always)]
unsafe fn ones(plane: *const u8) -> [__m256i; 2] {
    let words = _mm256_cvtepu8_epi16(_mm_set1_epi32(plane.cast::<i32>().read_unaligned()));
    let places = _mm256_setr_epi64x(0, 0x0001_0001_0001_0001, 0x0002_0002_0002_0002, 0x0003_0003_0003_0003);
    let low = _mm256_srlv_epi16(words, places);
    [low, _mm256_srli_epi16::<4>(low)]
}

/// `low` in the bits of the mask, `high` in the others.
#[inline(always)]
unsafe fn join<const MASK: i16>(low: __m256i, high: __m256i) -> __m256i {
    _mm256_ternarylogic_epi32::<0xe4>(low, high, _mm256_set1_epi16(MASK))
}
