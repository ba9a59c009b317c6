//! Levels that are bytes, and where codes of each width find theirs.

// Functions that must be inlined cannot enable AVX-512 themselves, and are therefore unsafe throughout.
#![allow(unsafe_op_in_unsafe_fn)]

use core::arch::x86_64::*;

use super::lanes::load;

/// The levels of all curves plus 128, as the instruction multiplies unsigned bytes by signed ones.
pub(super) struct Levels([__m512i; 2]);

impl Levels {
    #[inline(always)]
    pub(super) unsafe fn new(levels: &[i8; 128]) -> Self {
        let (levels, sign) = (levels.as_ptr(), _mm512_set1_epi8(i8::MIN));
        let (low, high) = (_mm512_loadu_si512(levels.cast()), _mm512_loadu_si512(levels.add(64).cast()));
        Self([_mm512_xor_si512(low, sign), _mm512_xor_si512(high, sign)])
    }
}

/// A width whose levels are bytes.
pub(super) trait ByteLevels {
    /// Reads the codes of four groups.
    ///
    /// # Safety
    /// They can be read at `packed`, and the machine has AVX-512.
    unsafe fn read_four(packed: *const u8) -> [__m512i; 2];

    /// Reads the codes of fewer groups, with masks of their first 16 words and of 16 from the fifth on.
    ///
    /// # Safety
    /// That of [`read_four`](Self::read_four).
    unsafe fn read(packed: *const u8, words: [u16; 2]) -> [__m512i; 2];

    /// The indices of their levels: of the first 16 columns of each group, and of the others. Bits above the index are
    /// arbitrary.
    ///
    /// # Safety
    /// The machine has AVX-512.
    unsafe fn indices(codes: [__m512i; 2], curves: __m512i) -> [__m512i; 2];

    /// The levels at these indices.
    ///
    /// # Safety
    /// The machine has AVX-512.
    unsafe fn look_up(levels: &Levels, indices: __m512i) -> __m512i;
}

/// A width as a type.
pub(super) struct Bits<const BITS: usize>;

impl ByteLevels for Bits<3> {
    /// Eight words and four, not twelve with a mask: that may wait for stores.
    #[inline(always)]
    unsafe fn read_four(packed: *const u8) -> [__m512i; 2] {
        let (low, high) = (_mm256_loadu_si256(packed.cast()), _mm_loadu_si128(packed.add(32).cast()));
        [_mm512_castsi256_si512(low), _mm512_castsi128_si512(high)]
    }

    #[inline(always)]
    unsafe fn read(packed: *const u8, words: [u16; 2]) -> [__m512i; 2] {
        let further = packed.wrapping_add(32);
        let (low, high) = (words[0] & 0xff, words[0] >> 8);
        [_mm512_maskz_loadu_epi32(low, packed.cast()), _mm512_maskz_loadu_epi32(high, further.cast())]
    }

    #[inline(always)]
    unsafe fn indices([low, high]: [__m512i; 2], curves: __m512i) -> [__m512i; 2] {
        // Each group has two words of two bits per code and one of one bit per code.
        let twos = load(&[0, 1, 0, 1, 3, 4, 3, 4, 6, 7, 6, 7, 17, 18, 17, 18]);
        let ones = load(&[2, 2, 2, 2, 5, 5, 5, 5, 16, 16, 16, 16, 19, 19, 19, 19]);
        let twos = _mm512_permutex2var_epi32(low, twos, high);
        let ones = _mm512_permutex2var_epi32(low, ones, high);
        // The third bit of a code is bit q of its column's byte in the first half, and bit 4 + q in the second: both come to lie
        // above the other two, and so does the second half's code above the first one's.
        let twos = _mm512_srlv_epi64(twos, load(&[0_i64, 2, 0, 2, 0, 2, 0, 2]));
        let ones = _mm512_rolv_epi32(ones, _mm512_set4_epi32(31, 0, 1, 2));
        let both = select::<0b0011_0011>(twos, ones);
        [select::<7>(both, curves), select::<7>(_mm512_srli_epi16::<4>(both), curves)]
    }

    #[inline(always)]
    unsafe fn look_up(levels: &Levels, indices: __m512i) -> __m512i {
        _mm512_permutexvar_epi8(indices, levels.0[0])
    }
}

impl ByteLevels for Bits<4> {
    #[inline(always)]
    unsafe fn read_four(packed: *const u8) -> [__m512i; 2] {
        [_mm512_loadu_si512(packed.cast()), _mm512_setzero_si512()]
    }

    #[inline(always)]
    unsafe fn read(packed: *const u8, words: [u16; 2]) -> [__m512i; 2] {
        [_mm512_maskz_loadu_epi32(words[0], packed.cast()), _mm512_setzero_si512()]
    }

    #[inline(always)]
    unsafe fn indices([all, _]: [__m512i; 2], curves: __m512i) -> [__m512i; 2] {
        [select::<15>(all, curves), select::<15>(_mm512_srli_epi16::<4>(all), curves)]
    }

    #[inline(always)]
    unsafe fn look_up(levels: &Levels, indices: __m512i) -> __m512i {
        _mm512_permutexvar_epi8(indices, levels.0[0])
    }
}

impl ByteLevels for Bits<5> {
    #[inline(always)]
    unsafe fn read_four(packed: *const u8) -> [__m512i; 2] {
        [_mm512_loadu_si512(packed.cast()), _mm512_loadu_si512(packed.add(16).cast())]
    }

    #[inline(always)]
    unsafe fn read(packed: *const u8, words: [u16; 2]) -> [__m512i; 2] {
        let further = packed.wrapping_add(16);
        [_mm512_maskz_loadu_epi32(words[0], packed.cast()), _mm512_maskz_loadu_epi32(words[1], further.cast())]
    }

    #[inline(always)]
    unsafe fn indices([low, high]: [__m512i; 2], curves: __m512i) -> [__m512i; 2] {
        // Each group has four words of four bits per code and one of one bit per code: 20 words, which are two loads.
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
