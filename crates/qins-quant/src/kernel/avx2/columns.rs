//! What rows of both forms share: 32 columns decoded at a time, by look-ups of sixteen bytes.

// Functions that must be inlined cannot enable AVX2 themselves, and are therefore unsafe throughout.
#![allow(unsafe_op_in_unsafe_fn)]

use core::arch::x86_64::*;

/// Columns that are decoded together, into two vectors of words.
pub(super) const CHUNK: usize = 32;

/// A row of weights, decoded a [`CHUNK`] at a time.
pub(super) trait Columns {
    /// Bytes of the codes of a chunk.
    const CHUNK_BYTES: usize;

    /// Where the codes start.
    fn codes(&self) -> *const u8;

    /// What an integer weight of 1 stands for in block `b`.
    fn unit(&self, b: usize) -> f32;

    /// The number of chunks of the row; the last one may be partial.
    fn count(&self) -> usize;

    /// The weights of columns 32·i to 32·(i + 1). Beyond the row's end they are arbitrary: activations there are zero.
    ///
    /// # Safety
    /// `i` is less than [`count`](Self::count), and the machine has AVX2.
    unsafe fn words(&self, i: usize) -> [__m256i; 2];
}

/// Looks up 32 codes in `TABLES` tables of sixteen bytes, which start `stride` bytes apart. Bits 0 to 3 of a code choose the
/// byte and the next ones the table; a code whose highest bit is set gives zero.
#[inline(always)]
pub(super) unsafe fn look_up<const TABLES: usize>(codes: __m256i, tables: *const u8, stride: usize) -> __m256i {
    const { assert!(matches!(TABLES, 1 | 2 | 4 | 8)) };
    let fifth = _mm256_slli_epi16::<3>(codes);
    let sixth = _mm256_slli_epi16::<2>(codes);
    let seventh = _mm256_slli_epi16::<1>(codes);
    match TABLES {
        1 => table(codes, tables),
        2 => pair(codes, tables, stride, fifth),
        4 => four(codes, tables, stride, fifth, sixth),
        // Eight, by the assertion.
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

/// Loads 32 bytes, 0..8 and 16..24 into the lower 128-bit lane and the others into the upper. Unpacking, which works within
/// lanes, then gives the columns in their order.
#[inline(always)]
pub(super) unsafe fn load_for_unpacking(bytes: *const u8) -> __m256i {
    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_loadu_si256(bytes.cast()))
}

/// Words from their low and high bytes, with the sign of the byte of the code.
#[inline(always)]
pub(super) unsafe fn signed(low: __m256i, high: __m256i, codes: __m256i) -> [__m256i; 2] {
    [
        _mm256_sign_epi16(_mm256_unpacklo_epi8(low, high), _mm256_unpacklo_epi8(codes, codes)),
        _mm256_sign_epi16(_mm256_unpackhi_epi8(low, high), _mm256_unpackhi_epi8(codes, codes)),
    ]
}
