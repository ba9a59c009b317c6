//! Codes in bit planes: a word of 32 bits for each bit of 32 codes.

#![allow(unsafe_code)]

use std::ops::BitXor;

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;

/// What an instruction set provides for reading a KV cache. A value of the type exists only on a machine that has it.
///
/// Codes have N ≥ 2 bits, and a word of each bit for some codes, u first, which is the lowest: their planes. Their levels have
/// indices of N + 1 bits: the bits of a code without u above the two that [`classes`] makes of u.
pub(crate) trait Planes: Copy {
    /// `scale·level + offset` of the 64 codes of a channel, each of which follows the one before.
    fn channel<const N: usize>(
        self,
        planes: &[u64; N],
        levels: &CodeLevels<impl Fn(f32) -> f32>,
        affine: Affine,
        out: &mut [f32; 64],
    );

    /// `scale·level` of 32 channels of tokens, of which the first follows none; at least as many as scales.
    fn tokens<const N: usize>(
        self,
        planes: &[[u32; N]; 64],
        levels: &CodeLevels<impl Fn(f32) -> f32>,
        scales: impl Iterator<Item = f32>,
        out: &mut [[f32; 32]],
    );

    /// `scale·level + offset` of 32 codes that are bytes.
    fn bytes(self, bytes: &[u8; 32], levels: ByteLevels, affine: Affine, out: &mut [f32; 32]);

    /// Whether [`add_products`](Self::add_products) has registers for 128 sums.
    #[inline(always)]
    fn is_wide(self) -> bool {
        false
    }

    /// `sums[row] += factors[row][i]·tile[i]` for each row and i, in the order of i.
    #[inline(always)]
    fn add_products<const ROWS: usize, const N: usize>(
        self,
        factors: [&[f32]; ROWS],
        tile: &[[f32; N]],
        sums: &mut [[f32; N]; ROWS],
    ) {
        let factors = factors.map(|factors| &factors[..tile.len()]);
        let mut all = *sums;
        for (i, numbers) in tile.iter().enumerate() {
            for row in 0..ROWS {
                for lane in 0..N {
                    all[row][lane] += factors[row][i] * numbers[lane];
                }
            }
        }
        *sums = all;
    }
}

/// The levels of codes, those below the middle the negative of those above: `level(2ⁿ − 1 − i) = −level(i)` of n-bit indices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodeLevels<'a, F> {
    /// By index.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only AVX-512 reads it"))]
    pub(crate) table: &'a [f32; 256],
    /// The same, computed.
    pub(crate) at: F,
}

/// The lowest two bits of indices, from the lowest bits of their codes, of those before them and of those before these.
#[inline(always)]
pub(crate) fn classes<T: Copy + BitXor<Output = T>>(u: T, before: T, earlier: T) -> [T; 2] {
    [before, u ^ earlier]
}

/// Levels of bytes: `(byte − zero)·step`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByteLevels {
    pub(crate) zero: f32,
    pub(crate) step: f32,
}

/// What a level becomes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Affine {
    pub(crate) scale: f32,
    pub(crate) offset: f32,
}

impl Affine {
    #[inline(always)]
    pub(crate) fn of(self, level: f32) -> f32 {
        self.scale * level + self.offset
    }
}

/// How an instruction set reads 32 codes at a time, and computes their levels.
pub(crate) trait Words: Copy {
    /// Code i is made of bit i of each plane, the lowest first; at most eight planes.
    fn codes(self, planes: &[u32]) -> [u8; 32];

    /// As [`Planes::bytes`].
    #[inline(always)]
    fn numbers(self, bytes: &[u8; 32], levels: ByteLevels, affine: Affine, out: &mut [f32; 32]) {
        for (x, byte) in out.iter_mut().zip(bytes) {
            *x = affine.of((f32::from(*byte) - levels.zero) * levels.step);
        }
    }
}

impl<W: Words> Planes for W {
    #[inline(always)]
    fn channel<const N: usize>(
        self,
        planes: &[u64; N],
        levels: &CodeLevels<impl Fn(f32) -> f32>,
        affine: Affine,
        out: &mut [f32; 64],
    ) {
        let [u, ..] = *planes.first_chunk::<1>().unwrap_or(&[0]);
        let classes = classes(u, u << 1, u << 2);
        let [low, high] = out.as_chunks_mut::<32>().0 else { return };
        let half =
            |at: u32| indices(classes.map(|plane| (plane >> at) as u32), planes.map(|plane| (plane >> at) as u32));
        for (out, planes) in [(low, half(0)), (high, half(32))] {
            let codes = self.codes(&planes[..=N]);
            out.iter_mut().zip(codes).for_each(|(x, code)| *x = affine.of((levels.at)(f32::from(code))));
        }
    }

    #[inline(always)]
    fn tokens<const N: usize>(
        self,
        planes: &[[u32; N]; 64],
        levels: &CodeLevels<impl Fn(f32) -> f32>,
        scales: impl Iterator<Item = f32>,
        out: &mut [[f32; 32]],
    ) {
        let mut before = [0; 2];
        for ((out, scale), own) in out.iter_mut().zip(scales).zip(planes) {
            let codes = self.codes(&indices(classes(own[0], before[0], before[1]), *own)[..=N]);
            out.iter_mut().zip(codes).for_each(|(x, code)| *x = scale * (levels.at)(f32::from(code)));
            before = [own[0], before[0]];
        }
    }

    #[inline(always)]
    fn bytes(self, bytes: &[u8; 32], levels: ByteLevels, affine: Affine, out: &mut [f32; 32]) {
        self.numbers(bytes, levels, affine, out);
    }
}

/// The planes of indices, from those of their classes and of their codes.
#[inline(always)]
fn indices<const N: usize>(classes: [u32; 2], own: [u32; N]) -> [u32; 8] {
    let mut planes = [0; 8];
    planes[..2].copy_from_slice(&classes);
    planes[2..=N].copy_from_slice(&own[1..]);
    planes
}

/// The baseline of the architecture.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Words for Portable {
    #[inline(always)]
    fn codes(self, planes: &[u32]) -> [u8; 32] {
        let mut eights = [0_u64; 4];
        for (bit, plane) in planes.iter().enumerate() {
            for (eight, byte) in eights.iter_mut().zip(plane.to_le_bytes()) {
                // Bit i of the byte in byte i, then in the lowest bit of it.
                let spread = (u64::from(byte) * 0x0101_0101_0101_0101) & 0x8040_2010_0804_0201;
                *eight |= ((spread + 0x7f7f_7f7f_7f7f_7f7f) >> 7 & 0x0101_0101_0101_0101) << bit;
            }
        }
        let mut codes = [0; 32];
        codes.as_chunks_mut().0.iter_mut().zip(eights).for_each(|(codes, eight)| *codes = eight.to_le_bytes());
        codes
    }
}

/// Defines a function whose body `$inner`, generic over [`Planes`] and `inline(always)`, is compiled once for each instruction set, one of
/// which it takes before the arguments. It gives the same bits on all of them, since the compiler does not fuse operations.
macro_rules! per_planes {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident $(<const $n:ident: usize>)? ($($arg:ident: $type:ty),* $(,)?) = $inner:path
    ) => {
        $(#[$meta])*
        #[allow(unsafe_code)]
        $vis fn $name $(<const $n: usize>)? (simd: $crate::kernel::Simd, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                use $crate::kernel::planes::{avx2::Avx2, avx512::Avx512};

                #[target_feature(enable = "avx2,f16c")]
                fn avx2 $(<const $n: usize>)? ($($arg: $type),*) {
                    // SAFETY: this function has the feature.
                    $inner(unsafe { Avx2::new() }, $($arg),*);
                }
                #[target_feature(enable = "avx2,f16c,gfni,avx512f,avx512bw,avx512vl,avx512vbmi")]
                fn avx512 $(<const $n: usize>)? ($($arg: $type),*) {
                    // SAFETY: as above.
                    $inner(unsafe { Avx512::new() }, $($arg),*);
                }
                match simd {
                    // SAFETY: `simd` is an available instruction set: `Simd::get` gives no other.
                    $crate::kernel::Simd::Avx2 | $crate::kernel::Simd::AvxVnni => return unsafe { avx2($($arg),*) },
                    // SAFETY: as above.
                    $crate::kernel::Simd::Avx512 => return unsafe { avx512($($arg),*) },
                    $crate::kernel::Simd::Portable | $crate::kernel::Simd::Neon => {}
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = simd;
            $inner($crate::kernel::planes::Portable, $($arg),*);
        }
    };
}
pub(crate) use per_planes;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Simd;

    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state ^ *state >> 29
    }

    #[test]
    fn codes_are_the_bits_of_their_planes() {
        let all = [0x8000_0001_u32, 0xdead_beef, 0, u32::MAX, 0x1234_5678, 0x0f0f_f0f0, 7, 0xa5a5_5a5a];
        for n in 0..=all.len() {
            let expected: [u8; 32] =
                std::array::from_fn(|i| (0..n).map(|bit| ((all[bit] >> i & 1) as u8) << bit).sum());
            assert_eq!(Portable.codes(&all[..n]), expected, "{n}");
            #[cfg(target_arch = "x86_64")]
            if Simd::Avx2.is_available() {
                // SAFETY: the machine has AVX2.
                assert_eq!(unsafe { avx2::Avx2::new() }.codes(&all[..n]), expected, "{n}");
            }
        }
    }

    /// Codes of `N` bits, their numbers one by one, and those that each instruction set reads from their planes.
    fn numbers_are_those_of_the_codes<const N: usize>() {
        #[inline(always)]
        fn read_channel<const N: usize>(
            reader: impl Planes,
            planes: &[u64; N],
            table: &[f32; 256],
            out: &mut [f32; 64],
        ) {
            let levels = CodeLevels { table, at: |index: f32| table[index as usize] };
            reader.channel(planes, &levels, Affine { scale: 0.7, offset: -3.0 }, out);
        }
        per_planes! {
            fn channel<const N: usize>(planes: &[u64; N], table: &[f32; 256], out: &mut [f32; 64]) = read_channel
        }
        #[inline(always)]
        fn read_tokens<const N: usize>(
            reader: impl Planes,
            planes: &[[u32; N]; 64],
            table: &[f32; 256],
            out: &mut [[f32; 32]],
        ) {
            let levels = CodeLevels { table, at: |index: f32| table[index as usize] };
            reader.tokens(planes, &levels, (1..).map(|i| i as f32 / 8.0), out);
        }
        per_planes! {
            fn tokens<const N: usize>(planes: &[[u32; N]; 64], table: &[f32; 256], out: &mut [[f32; 32]]) = read_tokens
        }
        // Odd about the middle, and no two alike.
        let table: [f32; 256] = std::array::from_fn(|i| {
            let q = i as f32 - ((1_u32 << N) as f32 - 0.5);
            q * q * q
        });
        let level = |code: usize, before: usize, earlier: usize| {
            table[code >> 1 << 2 | ((code ^ earlier) & 1) << 1 | before & 1]
        };
        let mut state = N as u64;
        let codes: [[usize; 32]; 64] =
            std::array::from_fn(|_| std::array::from_fn(|_| (random(&mut state) >> 40) as usize % (1 << N)));
        let columns: [[usize; 64]; 32] = std::array::from_fn(|c| std::array::from_fn(|t| codes[t][c]));
        let before =
            |codes: &dyn Fn(usize) -> usize, t: usize| [1, 2].map(|back| if t < back { 0 } else { codes(t - back) });
        for simd in Simd::ALL.into_iter().filter(|simd| simd.is_available()) {
            for (c, column) in columns.iter().enumerate() {
                let code = |t: usize| column[t];
                let planes: [u64; N] =
                    std::array::from_fn(|bit| (0..64).map(|t| ((code(t) >> bit & 1) as u64) << t).sum());
                let mut found = [0.0; 64];
                channel(simd, &planes, &table, &mut found);
                for (t, found) in found.into_iter().enumerate() {
                    let [one, two] = before(&code, t);
                    assert_eq!(found, 0.7 * level(code(t), one, two) - 3.0, "{simd}, {N} bits, channel {c}, token {t}");
                }
            }
            let planes: [[u32; N]; 64] = std::array::from_fn(|t| {
                std::array::from_fn(|bit| (0..32).map(|c| ((codes[t][c] >> bit & 1) as u32) << c).sum())
            });
            for n in [0, 1, 2, 5, 63, 64] {
                let mut found = vec![[0.0; 32]; n];
                tokens(simd, &planes, &table, &mut found);
                for (t, found) in found.iter().enumerate() {
                    for (c, found) in found.iter().enumerate() {
                        let [one, two] = before(&|t| codes[t][c], t);
                        let expected = (t + 1) as f32 / 8.0 * level(codes[t][c], one, two);
                        assert_eq!(*found, expected, "{simd}, {N} bits, {n} tokens, token {t}, channel {c}");
                    }
                }
            }
        }
    }

    #[test]
    fn numbers_are_those_of_the_codes_on_every_instruction_set() {
        numbers_are_those_of_the_codes::<2>();
        numbers_are_those_of_the_codes::<3>();
        numbers_are_those_of_the_codes::<4>();
        numbers_are_those_of_the_codes::<5>();
        numbers_are_those_of_the_codes::<6>();
        numbers_are_those_of_the_codes::<7>();
    }
}
