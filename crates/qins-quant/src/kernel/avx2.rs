//! The steps of the integer product in AVX2. Levels of groups are looked up sixteen at a time, low and high bytes apart;
//! 128 companded levels are too many for that, and are computed.

#![allow(unsafe_code)]

use core::arch::x86_64::*;

use qins_codec::Code;

use super::{
    activations::BLOCK,
    integer::{PANEL, Panel, Words},
    portable,
    row::{CompandedRow, GroupedRow, Row},
};
use crate::Layout;

/// Σ w·a of each block.
#[target_feature(enable = "avx2")]
pub(super) fn totals(row: &Row<'_>, a: &[i16], totals: &mut [i32]) {
    let mut words = [0; BLOCK];
    for ((b, total), a) in totals.iter_mut().enumerate().zip(a.as_chunks::<BLOCK>().0) {
        unpack(row, b, &mut words);
        *total = portable::dot(&words, a);
    }
}

/// The weights of block `b`; beyond the row's end whatever its filling stands for.
#[target_feature(enable = "avx2")]
pub(super) fn unpack(row: &Row<'_>, b: usize, words: &mut [i16; BLOCK]) {
    match row {
        Row::Companded(row) => companded(row, b, words),
        Row::Grouped(row) => match row.bits {
            3 => grouped::<3>(row, b, words),
            4 => grouped::<4>(row, b, words),
            5 => grouped::<5>(row, b, words),
            6 => grouped::<6>(row, b, words),
            _ => portable::grouped::<8>(row, b, words),
        },
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn companded(row: &CompandedRow<'_>, b: usize, words: &mut [i16; BLOCK]) {
    for (word, code) in words.iter_mut().zip(&row.codes[b * BLOCK..]) {
        let code = Code::from_bits(*code);
        let level = row.levels.curve.whole(code.magnitude());
        *word = if code.sign() < 0.0 { -level } else { level };
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn grouped<const BITS: usize>(row: &GroupedRow<'_>, b: usize, words: &mut [i16; BLOCK]) {
    let first = b * Layout::SUPER;
    let groups = row.packed.chunks_exact(4 * BITS).zip(row.group_scale).enumerate().skip(first);
    assert!(row.levels.entries == 16.max(1 << BITS));
    for ((g, (packed, scale)), words) in groups.zip(words.as_chunks_mut::<{ Layout::GROUP }>().0) {
        let scale = _mm256_set1_epi16(i16::from(scale.cast_signed()) * 256);
        let curve = usize::from(row.selector[g / 4] >> (2 * (g % 4)) & 3);
        let levels = &row.levels.bytes[2 * curve * row.levels.entries..][..2 * row.levels.entries];
        let codes = codes::<BITS>(packed);
        let [low, high] = [0, 16].map(|half| look_up::<BITS>(codes, &levels[half..]));
        for (word, words) in [_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)]
            .into_iter()
            .zip(words.as_chunks_mut::<16>().0)
        {
            // SAFETY: `words` is 16 words.
            unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), _mm256_mulhrs_epi16(word, scale)) };
        }
    }
}

/// 32 codes: columns 0..8 and 16..24 in one half, the others in the other, so that bytes come out in order when the bytes
/// of halves are paired.
#[inline]
#[target_feature(enable = "avx2")]
fn codes<const BITS: usize>(packed: &[u8]) -> __m256i {
    assert!(packed.len() >= 4 * BITS);
    let from = packed.as_ptr();
    let nibbles = || {
        // SAFETY: of 4 and more bits there are 16 bytes at least.
        let bytes = _mm256_castsi128_si256(unsafe { _mm_loadu_si128(from.cast()) });
        let twice = _mm256_permute4x64_epi64::<0b01_01_00_00>(bytes);
        _mm256_and_si256(_mm256_srlv_epi64(twice, _mm256_setr_epi64x(0, 4, 0, 4)), _mm256_set1_epi8(15))
    };
    let twos = |at: usize| {
        // SAFETY: where two bits of each code lie, there are 8 bytes.
        let bytes = _mm256_set1_epi64x(unsafe { from.add(at).cast::<i64>().read_unaligned() });
        _mm256_and_si256(_mm256_srlv_epi64(bytes, _mm256_setr_epi64x(0, 4, 2, 6)), _mm256_set1_epi8(3))
    };
    let ones = |at: usize| {
        // SAFETY: where one bit of each code lies, there are 4 bytes.
        let bytes = _mm256_set1_epi32(unsafe { from.add(at).cast::<i32>().read_unaligned() });
        let places = _mm256_setr_epi32(0, 1, 4, 5, 2, 3, 6, 7);
        _mm256_and_si256(_mm256_srlv_epi32(bytes, places), _mm256_set1_epi8(1))
    };
    match BITS {
        3 => _mm256_or_si256(twos(0), _mm256_slli_epi16::<2>(ones(8))),
        4 => nibbles(),
        5 => _mm256_or_si256(nibbles(), _mm256_slli_epi16::<4>(ones(16))),
        _ => _mm256_or_si256(nibbles(), _mm256_slli_epi16::<4>(twos(16))),
    }
}

/// The bytes of 32 codes, from tables of sixteen that lie 32 bytes apart.
#[inline]
#[target_feature(enable = "avx2")]
fn look_up<const BITS: usize>(codes: __m256i, tables: &[u8]) -> __m256i {
    let table = |i: usize| {
        let table = &tables[32 * i..][..16];
        // SAFETY: `table` is 16 bytes.
        let table = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(table.as_ptr().cast()) });
        _mm256_shuffle_epi8(table, codes)
    };
    // The fifth and sixth bits, where a blend looks for them.
    let (fifth, sixth) = (_mm256_slli_epi16::<3>(codes), _mm256_slli_epi16::<2>(codes));
    match BITS {
        3 | 4 => table(0),
        5 => _mm256_blendv_epi8(table(0), table(1), fifth),
        _ => {
            let pairs = [0, 2].map(|i| _mm256_blendv_epi8(table(i), table(i + 1), fifth));
            _mm256_blendv_epi8(pairs[0], pairs[1], sixth)
        }
    }
}

/// Pairs of columns of all rows together.
#[target_feature(enable = "avx2")]
pub(super) fn interleave(words: &Words, panel: &mut Panel) {
    portable::interleave(words, panel);
}

/// Σ w·a of each row of a panel and each row of `x`, whose rows are `stride` apart.
#[target_feature(enable = "avx2")]
pub(super) fn panel_totals(panel: &Panel, x: &[i16], stride: usize, totals: &mut [[i32; PANEL]]) {
    let (pairs, rest) = totals.as_chunks_mut::<2>();
    let n = 2 * pairs.len();
    for (i, totals) in pairs.iter_mut().enumerate() {
        two_totals(panel, [2 * i, 2 * i + 1].map(|j| &x[j * stride..]), totals);
    }
    if let [last] = rest {
        let mut both = [[0; PANEL]; 2];
        two_totals(panel, [&x[n * stride..]; 2], &mut both);
        *last = both[0];
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn two_totals(panel: &Panel, x: [&[i16]; 2], totals: &mut [[i32; PANEL]; 2]) {
    assert!(x.iter().all(|x| x.len() >= BLOCK));
    let mut sums = [[_mm256_setzero_si256(); 4]; 2];
    for (p, panel) in panel.0.iter().enumerate() {
        let pairs = x.map(|x| {
            // SAFETY: the assertion above.
            _mm256_set1_epi32(unsafe { x.as_ptr().add(2 * p).cast::<i32>().read_unaligned() })
        });
        for (i, w) in panel.as_chunks::<8>().0.iter().enumerate() {
            // SAFETY: `w` is 8 pairs of words.
            let w = unsafe { _mm256_loadu_si256(w.as_ptr().cast()) };
            for (sums, pair) in sums.iter_mut().zip(pairs) {
                sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(w, pair));
            }
        }
    }
    for (totals, sums) in totals.iter_mut().zip(sums) {
        for (sum, totals) in sums.into_iter().zip(totals.as_chunks_mut::<8>().0) {
            // SAFETY: `totals` is 8 numbers of 32 bits.
            unsafe { _mm256_storeu_si256(totals.as_mut_ptr().cast(), sum) };
        }
    }
}
