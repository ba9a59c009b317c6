//! AVX-512 with GFNI: a product of matrices of 8 × 8 bits makes the bytes of eight indices from a byte of each of their planes.

use core::arch::x86_64::*;

use super::{Affine, ByteLevels, CodeLevels, Planes};

/// AVX-512.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// # Safety
    /// The machine must have F, BW, VL and VBMI of AVX-512, and GFNI.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

impl Planes for Avx512 {
    #[inline(always)]
    fn channel<const N: usize>(
        self,
        planes: &[u64; N],
        levels: &CodeLevels<impl Fn(f32) -> f32>,
        affine: Affine,
        out: &mut [f32; 64],
    ) {
        // SAFETY: a value of this type exists only on a machine that has these instructions.
        unsafe { channel(planes, levels.table, affine, out) }
    }

    #[inline(always)]
    fn tokens<const N: usize>(
        self,
        planes: &[[u32; N]; 64],
        levels: &CodeLevels<impl Fn(f32) -> f32>,
        mut scales: impl Iterator<Item = f32>,
        out: &mut [[f32; 32]],
    ) {
        let (pairs, last) = out.as_chunks_mut::<2>();
        let mut scales = || scales.next().unwrap_or(f32::NAN);
        for (i, pair) in pairs.iter_mut().enumerate() {
            // SAFETY: as above.
            unsafe { two_tokens(planes, i, levels.table, [scales(), scales()], pair) };
        }
        if let [last] = last {
            let mut pair = [[0.0; 32]; 2];
            // SAFETY: as above.
            unsafe { two_tokens(planes, pairs.len(), levels.table, [scales(), 0.0], &mut pair) };
            [*last, _] = pair;
        }
    }

    #[inline(always)]
    fn bytes(self, bytes: &[u8; 32], levels: ByteLevels, affine: Affine, out: &mut [f32; 32]) {
        // SAFETY: as above.
        unsafe { numbers(bytes, levels, affine, out) }
    }

    #[inline(always)]
    fn is_wide(self) -> bool {
        true
    }
}

/// Where the bytes of planes are that a matrix of eight indices is made of. In it row 7 − i makes bit i, and the highest bit of an index is
/// moved to the highest of its byte.
struct Rows {
    /// For each of 64 indices in order, eight by eight.
    bytes: [u8; 64],
}

impl Rows {
    /// Of indices of `n` bits and the highest one: byte `places[i][bit]` has bit `bit` of indices 8·i to 8·i + 7, and byte `zero` zeros.
    const fn new(n: usize, places: &[[u8; 8]; 8], zero: u8) -> Self {
        let mut bytes = [zero; 64];
        let mut i = 0;
        while i < 8 {
            let mut bit = 0;
            while bit < n {
                bytes[8 * i + 7 - bit] = places[i][bit];
                bit += 1;
            }
            bytes[8 * i] = places[i][n];
            i += 1;
        }
        Self { bytes }
    }

    /// Of planes of 64 bits in turn, the last of which is zero if there are fewer than eight.
    const fn of_channel(n: usize) -> Self {
        let mut places = [[0; 8]; 8];
        let mut at = 0;
        while at < 64 {
            places[at % 8][at / 8] = at as u8;
            at += 1;
        }
        Self::new(n, &places, 63)
    }

    /// Of the planes of two tokens, `n` words each, but for the lowest, which are at the same place in the other register. The last
    /// word of that is zero.
    const fn of_tokens(n: usize) -> Self {
        let mut places = [[0; 8]; 8];
        let mut at = 0;
        while at < 64 {
            let (i, bit) = (at / 8, at % 8);
            let (first, byte) = (i / 4 * n, i % 4);
            places[i][bit] =
                if bit == 0 { (64 + 4 * first + byte) as u8 } else { (4 * (first + bit - 1) + byte) as u8 };
            at += 1;
        }
        Self::new(n, &places, 127)
    }

    #[inline(always)]
    fn load(&self) -> __m512i {
        // SAFETY: the array has the 64 bytes that are read.
        unsafe { _mm512_loadu_si512(self.bytes.as_ptr().cast()) }
    }
}

/// The words in place `at` of two tokens, `n` words each.
const fn every(n: usize, at: usize) -> u16 {
    (1 << at | 1 << (n + at)) as u16
}

/// The bytes of 64 indices, in order, whose highest bits say whether the number is negative, and whose other bits are then those of the mirror
/// index, so that half of the levels suffices. `rows` are the matrices, in which that has been done to all but the highest plane.
#[inline]
#[target_feature(enable = "gfni,avx512f,avx512bw,avx512vl,avx512vbmi")]
fn indices(rows: __m512i) -> __m512i {
    // Row j of the identity takes bit j of each plane; the highest bit is inverted.
    let identity = _mm512_set1_epi64(0x8040_2010_0804_0201_u64.cast_signed());
    _mm512_gf2p8affine_epi64_epi8::<0x80>(identity, rows)
}

/// The levels of 64 indices of `n` bits and a sign, from the upper half of their table.
#[inline]
#[target_feature(enable = "gfni,avx512f,avx512bw,avx512vl,avx512vbmi")]
fn numbers_of<const N: usize>(indices: __m512i, table: &[f32; 256]) -> [__m512; 4] {
    // Index 16·k + i in byte k of lane i: reading a lane as an index ignores the bits above those that it needs.
    const LANES: [u8; 64] = {
        let mut bytes = [0; 64];
        let mut at = 0;
        while at < 64 {
            bytes[at] = (at % 4 * 16 + at / 4) as u8;
            at += 1;
        }
        bytes
    };
    // SAFETY: the array has the 64 bytes that are read.
    let lanes = unsafe { _mm512_loadu_si512(LANES.as_ptr().cast()) };
    let lanes = _mm512_permutexvar_epi8(lanes, indices);
    let part = |at: usize| {
        // SAFETY: the upper half of a table of 2ᴺ⁺¹ numbers begins at 2ᴺ; the callers below ask for 16 numbers of it, of which there are as many or, of
        // a table shorter than that, of the 256 there are in all.
        unsafe { _mm512_loadu_ps(table.as_ptr().add((1 << N) + at)) }
    };
    // Of the indices without the bits from 32 on.
    let within = |at: usize, index| _mm512_permutex2var_ps(part(at), index, part(at + 16));
    let by_bit = |bit, index, clear, set| {
        _mm512_mask_blend_ps(_mm512_test_epi32_mask(index, _mm512_set1_epi32(bit)), clear, set)
    };
    let level = |index: __m512i| match N {
        0..=4 => _mm512_permutexvar_ps(index, part(0)),
        5 => within(0, index),
        6 => by_bit(32, index, within(0, index), within(32, index)),
        _ => {
            let [clear, set] = [0, 64].map(|at| by_bit(32, index, within(at, index), within(at + 32, index)));
            by_bit(64, index, clear, set)
        }
    };
    // The level, with the sign of the other.
    let signed = |level: __m512, sign: __m512i| {
        let highest = _mm512_set1_epi32(i32::MIN);
        _mm512_castsi512_ps(_mm512_ternarylogic_epi32::<0x78>(_mm512_castps_si512(level), sign, highest))
    };
    [
        signed(level(lanes), _mm512_slli_epi32::<24>(lanes)),
        signed(level(_mm512_srli_epi32::<8>(lanes)), _mm512_slli_epi32::<16>(lanes)),
        signed(level(_mm512_srli_epi32::<16>(lanes)), _mm512_slli_epi32::<8>(lanes)),
        signed(level(_mm512_srli_epi32::<24>(lanes)), lanes),
    ]
}

/// `planes`, and in the places of `which` with the bits inverted where those of `top` are clear.
#[inline]
#[target_feature(enable = "avx512f")]
fn mirrored(planes: __m512i, which: u16, top: __m512i) -> __m512i {
    _mm512_mask_ternarylogic_epi32::<0xc3>(planes, which, top, top)
}

#[inline]
#[target_feature(enable = "gfni,avx512f,avx512bw,avx512vl,avx512vbmi")]
fn channel<const N: usize>(planes: &[u64; N], table: &[f32; 256], affine: Affine, out: &mut [f32; 64]) {
    const { assert!(2 <= N && N <= 7, "codes of 2 to 7 bits") };
    // SAFETY: `planes` has the N words that are read.
    let own = unsafe { _mm512_maskz_expandloadu_epi64((((1_u16 << N) - 1) << 1) as u8, planes.as_ptr().cast()) };
    // 0, u, and the other planes; with u shifted once and twice, the two classes are in their place.
    let before = _mm512_maskz_sllv_epi64(
        0b11,
        _mm512_set1_epi64(planes[0].cast_signed()),
        _mm512_setr_epi64(1, 2, 0, 0, 0, 0, 0, 0),
    );
    let all = _mm512_xor_si512(own, before);
    let top = _mm512_set1_epi64(planes[N - 1].cast_signed());
    let all = mirrored(all, ((1_u32 << (2 * N)) - 1) as u16, top);
    let rows = _mm512_permutexvar_epi8(const { &Rows::of_channel(N) }.load(), all);
    let levels = numbers_of::<N>(indices(rows), table);
    let (scale, offset) = (_mm512_set1_ps(affine.scale), _mm512_set1_ps(affine.offset));
    for (out, level) in out.as_chunks_mut::<16>().0.iter_mut().zip(levels) {
        // SAFETY: `out` has the 16 numbers that are written.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), _mm512_add_ps(_mm512_mul_ps(scale, level), offset)) };
    }
}

/// Tokens `2·pair` and the one after.
#[inline]
#[target_feature(enable = "gfni,avx512f,avx512bw,avx512vl,avx512vbmi")]
fn two_tokens<const N: usize>(
    planes: &[[u32; N]; 64],
    pair: usize,
    table: &[f32; 256],
    scales: [f32; 2],
    out: &mut [[f32; 32]; 2],
) {
    const { assert!(2 <= N && N <= 7, "codes of 2 to 7 bits") };
    let (words, u) = (((1_u32 << (2 * N)) - 1) as u16, every(N, 0));
    let own = planes.as_ptr().wrapping_add(2 * pair).cast::<i32>();
    // The words u of the tokens `back` before, 0 where there is none.
    let before = |back: usize| {
        let there = if pair > 0 { u } else { u & !((1 << (back * N)) - 1) as u16 };
        // SAFETY: where the mask is set, the words are those of a token of `planes`.
        unsafe { _mm512_maskz_loadu_epi32(there, own.wrapping_sub(back * N)) }
    };
    // SAFETY: `planes` has two tokens from there on, of N words each.
    let all = _mm512_xor_si512(unsafe { _mm512_maskz_loadu_epi32(words, own) }, before(2));
    // SAFETY: the array has the 16 words that are read.
    let top = unsafe { _mm512_loadu_si512(const { &tops(N) }.as_ptr().cast()) };
    let top = _mm512_permutexvar_epi32(top, all);
    let low = mirrored(before(1), u, top);
    let all = mirrored(all, words & !every(N, N - 1), top);
    let rows = _mm512_permutex2var_epi8(all, const { &Rows::of_tokens(N) }.load(), low);
    let [a, b, c, d] = numbers_of::<N>(indices(rows), table);
    for ((out, levels), scale) in out.iter_mut().zip([[a, b], [c, d]]).zip(scales) {
        let scale = _mm512_set1_ps(scale);
        for (out, level) in out.as_chunks_mut::<16>().0.iter_mut().zip(levels) {
            // SAFETY: `out` has the 16 numbers that are written.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), _mm512_mul_ps(scale, level)) };
        }
    }
}

/// For each word of two tokens, which is the highest plane of its token.
const fn tops(n: usize) -> [u32; 16] {
    let mut tops = [0; 16];
    let mut word = 0;
    while word < 2 * n {
        tops[word] = (word / n * n + n - 1) as u32;
        word += 1;
    }
    tops
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn numbers(bytes: &[u8; 32], levels: ByteLevels, affine: Affine, out: &mut [f32; 32]) {
    let [zero, step, scale, offset] =
        [levels.zero, levels.step, affine.scale, affine.offset].map(|x| _mm512_set1_ps(x));
    for (out, bytes) in out.as_chunks_mut::<16>().0.iter_mut().zip(bytes.as_chunks::<16>().0) {
        // SAFETY: `bytes` has the 16 bytes that are read.
        let bytes = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
        let level = _mm512_mul_ps(_mm512_sub_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)), zero), step);
        // SAFETY: `out` has the 16 numbers that are written.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), _mm512_add_ps(_mm512_mul_ps(scale, level), offset)) };
    }
}
