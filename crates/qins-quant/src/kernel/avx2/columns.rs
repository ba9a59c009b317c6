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

/// Looks up 32 codes in two halves of `HALF` tables of sixteen bytes, kept as
/// [`levels::differences`](crate::kernel::levels::differences). Bits 0 to 3 of a code choose the byte and the next ones the
/// table; higher ones do not count.
#[inline(always)]
pub(super) unsafe fn look_up<const HALF: usize>(codes: __m256i, differences: *const u8) -> __m256i {
    const { assert!(matches!(HALF, 1 | 2 | 4)) };
    let within = _mm256_and_si256(codes, _mm256_set1_epi8((16 * HALF - 1) as i8));
    // Which half, as the highest bit of a byte.
    let upper = match HALF {
        1 => _mm256_slli_epi16::<3>(codes),
        2 => _mm256_slli_epi16::<2>(codes),
        // Four, by the assertion.
        _ => _mm256_slli_epi16::<1>(codes),
    };
    _mm256_blendv_epi8(half::<HALF>(within, differences), half::<HALF>(within, differences.add(16 * HALF)), upper)
}

/// A shuffle gives zero where the highest bit of an index is set, as it is in i − 16·t for i < 16·t. So the exclusive or of the
/// differences up to the table that is meant is that table's byte. (A blend is one instruction too, but three operations on
/// Intel's processors.)
#[inline(always)]
unsafe fn half<const HALF: usize>(codes: __m256i, differences: *const u8) -> __m256i {
    let mut byte = shuffle(differences, codes);
    for t in 1..HALF {
        let codes = _mm256_sub_epi8(codes, _mm256_set1_epi8(16 * t as i8));
        byte = _mm256_xor_si256(byte, shuffle(differences.add(16 * t), codes));
    }
    byte
}

/// Looks up 32 codes in one table of sixteen bytes.
#[inline(always)]
pub(super) unsafe fn shuffle(table: *const u8, codes: __m256i) -> __m256i {
    _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(table.cast())), codes)
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
