//! The steps of the integer product in AVX2. Levels are looked up sixteen at a time, low and high bytes apart.

#![allow(unsafe_code)]
// Helpers that must be inlined cannot name their instruction set, and are unsafe throughout for it.
#![allow(unsafe_op_in_unsafe_fn)]

mod companded;
mod groups;
mod panel;

use core::arch::x86_64::*;

use self::{companded::Companded, groups::Groups};
use super::{
    activations::{ActivationRow, BLOCK},
    portable,
    row::{Row, Units},
};
use crate::grouped::with_bits;
pub(super) use panel::{interleave, panel_totals};

/// Columns that are decoded together, to two vectors of words.
const SOME: usize = 32;

/// A row, some columns at a time.
trait Columns {
    /// How many times so many columns there are, the last perhaps not whole.
    fn count(&self) -> usize;

    /// The weights of columns 32·i to 32·(i + 1); beyond the row's end whatever its filling stands for.
    ///
    /// # Safety
    /// There are so many, and the machine has AVX2.
    unsafe fn words(&self, i: usize) -> [__m256i; 2];
}

/// Σ w·a of each block.
#[target_feature(enable = "avx2")]
pub(super) fn totals(row: &Row<'_>, a: ActivationRow<'_>, totals: &mut [i32]) {
    let a = a.values.as_chunks::<BLOCK>().0;
    match row {
        Row::Companded(row) => totals_of(&Companded::new(row), a, totals),
        Row::Grouped(row) => with_bits!(row.width, BITS => totals_of(&Groups::<BITS>::new(row), a, totals)),
    }
}

/// Σ total·(step·unit) over the blocks of a row, in their order.
#[target_feature(enable = "avx2")]
pub(super) fn sum(totals: &[i32], steps: &[f32], units: Units<'_>) -> f32 {
    portable::sum(totals, steps, units)
}

/// The weights of block `b`; beyond the row's end whatever its filling stands for.
#[target_feature(enable = "avx2")]
pub(super) fn unpack(row: &Row<'_>, b: usize, words: &mut [i16; BLOCK]) {
    match row {
        Row::Companded(row) => unpack_of(&Companded::new(row), b, words),
        Row::Grouped(row) => with_bits!(row.width, BITS => unpack_of(&Groups::<BITS>::new(row), b, words)),
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn totals_of(row: &impl Columns, a: &[[i16; BLOCK]], totals: &mut [i32]) {
    let count = row.count();
    for (b, (total, a)) in totals.iter_mut().zip(a).enumerate() {
        let mut sums = [_mm256_setzero_si256(); 2];
        let first = b * (BLOCK / SOME);
        for (i, a) in (first..count).zip(a.as_chunks::<SOME>().0) {
            // SAFETY: there are `count`; `a` is two vectors of words.
            unsafe {
                let ([low, high], a) = (row.words(i), a.as_ptr().cast::<__m256i>());
                sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(low, _mm256_loadu_si256(a)));
                sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(high, _mm256_loadu_si256(a.add(1))));
            }
        }
        *total = lanes_added(_mm256_add_epi32(sums[0], sums[1]));
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn unpack_of(row: &impl Columns, b: usize, words: &mut [i16; BLOCK]) {
    for (i, words) in (b * (BLOCK / SOME)..row.count()).zip(words.as_chunks_mut::<SOME>().0) {
        // SAFETY: there are so many; `words` is two vectors.
        unsafe {
            let ([low, high], to) = (row.words(i), words.as_mut_ptr().cast::<__m256i>());
            _mm256_storeu_si256(to, low);
            _mm256_storeu_si256(to.add(1), high);
        }
    }
}

/// The sum of all lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn lanes_added(lanes: __m256i) -> i32 {
    let four = _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256::<1>(lanes));
    let two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
}

/// Looks up 32 codes in `TABLES` tables of sixteen bytes, which start `stride` bytes apart. Bits 0 to 3 of a code choose the
/// byte and the next ones the table; a code whose highest bit is set gives zero.
#[inline(always)]
unsafe fn look_up<const TABLES: usize>(codes: __m256i, tables: *const u8, stride: usize) -> __m256i {
    const { assert!(matches!(TABLES, 1 | 2 | 4 | 8)) };
    let fifth = _mm256_slli_epi16::<3>(codes);
    let sixth = _mm256_slli_epi16::<2>(codes);
    let seventh = _mm256_slli_epi16::<1>(codes);
    match TABLES {
        1 => table(codes, tables),
        2 => pair(codes, tables, stride, fifth),
        4 => four(codes, tables, stride, fifth, sixth),
        // Eight.
        _ => _mm256_blendv_epi8(
            four(codes, tables, stride, fifth, sixth),
            four(codes, tables.add(4 * stride), stride, fifth, sixth),
            seventh,
        ),
    }
}

#[inline(always)]
unsafe fn table(codes: __m256i, table: *const u8) -> __m256i {
    _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(table.cast())), codes)
}

#[inline(always)]
unsafe fn pair(codes: __m256i, tables: *const u8, stride: usize, fifth: __m256i) -> __m256i {
    _mm256_blendv_epi8(table(codes, tables), table(codes, tables.add(stride)), fifth)
}

#[inline(always)]
unsafe fn four(codes: __m256i, tables: *const u8, stride: usize, fifth: __m256i, sixth: __m256i) -> __m256i {
    let (low, high) = (pair(codes, tables, stride, fifth), pair(codes, tables.add(2 * stride), stride, fifth));
    _mm256_blendv_epi8(low, high, sixth)
}

/// 32 columns, bytes 0..8 and 16..24 in one half and the others in the other, so that they are in order when the bytes of
/// halves are paired.
#[inline(always)]
unsafe fn for_pairing(bytes: *const u8) -> __m256i {
    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_loadu_si256(bytes.cast()))
}

/// Words of their low and high bytes, negative where the code's byte is.
#[inline(always)]
unsafe fn signed(low: __m256i, high: __m256i, codes: __m256i) -> [__m256i; 2] {
    [
        _mm256_sign_epi16(_mm256_unpacklo_epi8(low, high), _mm256_unpacklo_epi8(codes, codes)),
        _mm256_sign_epi16(_mm256_unpackhi_epi8(low, high), _mm256_unpackhi_epi8(codes, codes)),
    ]
}
