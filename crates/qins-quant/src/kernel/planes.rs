//! Codes in bit planes: a word of 32 bits for each bit of 32 codes.

#![allow(unsafe_code)]

/// What an instruction set provides for reading a KV cache. A value of the type exists only on a machine that has it.
pub(crate) trait Planes: Copy {
    /// Code i is made of bit i of each plane, the lowest first; at most eight planes.
    fn codes(self, planes: &[u32]) -> [u8; 32];

    /// `scale·level + offset` of 32 codes, whose levels are computed by `level`, or in the first `2^planes` numbers of `table`:
    /// whichever is faster. There is a plane at least, and those below the middle are the negative of those above: `level(2^planes − 1 − i) = −level(i)`.
    #[inline(always)]
    fn place(
        self,
        planes: &[u32],
        table: &[f32; 256],
        level: impl Fn(f32) -> f32,
        affine: Affine,
        out: &mut [f32; 32],
    ) {
        let _ = table;
        let codes = self.codes(planes);
        out.iter_mut().zip(codes).for_each(|(x, code)| *x = affine.of(level(f32::from(code))));
    }

    /// `scale·level + offset` of 32 codes that are bytes.
    #[inline(always)]
    fn place_bytes(self, bytes: &[u8; 32], levels: ByteLevels, affine: Affine, out: &mut [f32; 32]) {
        for (x, byte) in out.iter_mut().zip(bytes) {
            *x = affine.of((f32::from(*byte) - levels.zero) * levels.step);
        }
    }

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

/// The baseline of the architecture.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Planes for Portable {
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

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    use core::arch::x86_64::*;

    use super::{Affine, ByteLevels, Planes};

    /// AVX2.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(());

    /// AVX-512.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(());

    impl Avx2 {
        /// # Safety
        /// The machine must have AVX2.
        #[inline(always)]
        pub(crate) unsafe fn new() -> Self {
            Self(())
        }
    }

    impl Avx512 {
        /// # Safety
        /// The machine must have AVX-512 F, BW and VL.
        #[inline(always)]
        pub(crate) unsafe fn new() -> Self {
            Self(())
        }
    }

    impl Planes for Avx2 {
        #[inline(always)]
        fn codes(self, planes: &[u32]) -> [u8; 32] {
            // SAFETY: a value of this type exists only on a machine that has AVX2.
            unsafe { avx2(planes) }
        }

        #[inline(always)]
        fn place_bytes(self, bytes: &[u8; 32], levels: ByteLevels, affine: Affine, out: &mut [f32; 32]) {
            // SAFETY: as above.
            unsafe { bytes_avx2(bytes, levels, affine, out) }
        }
    }

    impl Planes for Avx512 {
        #[inline(always)]
        fn is_wide(self) -> bool {
            true
        }

        #[inline(always)]
        fn codes(self, planes: &[u32]) -> [u8; 32] {
            // SAFETY: a value of this type exists only on a machine that has these parts of AVX-512.
            unsafe { avx512(planes) }
        }

        #[inline(always)]
        fn place(
            self,
            planes: &[u32],
            table: &[f32; 256],
            _: impl Fn(f32) -> f32,
            affine: Affine,
            out: &mut [f32; 32],
        ) {
            // SAFETY: as above.
            unsafe { look_up(planes, table, affine, out) }
        }

        #[inline(always)]
        fn place_bytes(self, bytes: &[u8; 32], levels: ByteLevels, affine: Affine, out: &mut [f32; 32]) {
            // SAFETY: as above.
            unsafe { bytes_avx512(bytes, levels, affine, out) }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn avx2(planes: &[u32]) -> [u8; 32] {
        // Byte i of the plane for codes 8·i to 8·i + 7, and the bit of each code in it.
        let bytes = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
        let bits = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
        let mut codes = _mm256_setzero_si256();
        for (bit, plane) in planes.iter().enumerate() {
            let own = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(plane.cast_signed()), bytes), bits);
            let set = _mm256_cmpeq_epi8(own, bits);
            codes = _mm256_or_si256(codes, _mm256_and_si256(set, _mm256_set1_epi8((1_u8 << bit).cast_signed())));
        }
        let mut out = [0; 32];
        // SAFETY: `out` has the 32 bytes that are written.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), codes) };
        out
    }

    // The compiler unrolls a loop over 32 bytes before it can vectorise it.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn bytes_avx2(bytes: &[u8; 32], levels: ByteLevels, affine: Affine, out: &mut [f32; 32]) {
        let [zero, step, scale, offset] =
            [levels.zero, levels.step, affine.scale, affine.offset].map(|x| _mm256_set1_ps(x));
        for (out, bytes) in out.as_chunks_mut::<8>().0.iter_mut().zip(bytes.as_chunks::<8>().0) {
            let bytes = _mm_cvtsi64_si128(i64::from_le_bytes(*bytes));
            let level = _mm256_mul_ps(_mm256_sub_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)), zero), step);
            // SAFETY: `out` has the 8 numbers that are written.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), _mm256_add_ps(_mm256_mul_ps(scale, level), offset)) };
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn bytes_avx512(bytes: &[u8; 32], levels: ByteLevels, affine: Affine, out: &mut [f32; 32]) {
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

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn merged(planes: &[u32]) -> __m256i {
        let mut codes = _mm256_setzero_si256();
        for (bit, plane) in planes.iter().enumerate() {
            codes = _mm256_or_si256(codes, _mm256_maskz_set1_epi8(*plane, (1_u8 << bit).cast_signed()));
        }
        codes
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn look_up(planes: &[u32], table: &[f32; 256], affine: Affine, out: &mut [f32; 32]) {
        let Some((top, low)) = planes.split_last() else { return };
        // Codes below the middle are read in its mirror: half as many levels are looked up.
        let (below, mut folded, n) = (!top, [0; 8], low.len());
        folded.iter_mut().zip(low).for_each(|(folded, plane)| *folded = plane ^ below);
        let codes = merged(&folded[..n]);
        let part = |at: usize| {
            // SAFETY: the upper half of a table of 2ⁿ⁺¹ numbers begins at 2ⁿ; the callers below ask for 16 numbers of it, of which there are as many or, of
            // a table shorter than that, of the 256 there are in all.
            unsafe { _mm512_loadu_ps(table.as_ptr().add((1 << n) + at)) }
        };
        // Of the codes without the bits from 32 on.
        let within = |at: usize, codes| _mm512_permutex2var_ps(part(at), codes, part(at + 16));
        let by_bit = |bit, codes, clear, set| {
            _mm512_mask_blend_ps(_mm512_test_epi32_mask(codes, _mm512_set1_epi32(bit)), clear, set)
        };
        let level = |codes: __m512i| match n {
            0..=4 => _mm512_permutexvar_ps(codes, part(0)),
            5 => within(0, codes),
            6 => by_bit(32, codes, within(0, codes), within(32, codes)),
            _ => {
                let [clear, set] = [0, 64].map(|at| by_bit(32, codes, within(at, codes), within(at + 32, codes)));
                by_bit(64, codes, clear, set)
            }
        };
        let negated = |below: u32, level: __m512| {
            let level = _mm512_castps_si512(level);
            _mm512_castsi512_ps(_mm512_mask_xor_epi32(level, below as u16, level, _mm512_set1_epi32(i32::MIN)))
        };
        let (scale, offset) = (_mm512_set1_ps(affine.scale), _mm512_set1_ps(affine.offset));
        let halves = [(below, _mm256_castsi256_si128(codes)), (below >> 16, _mm256_extracti128_si256::<1>(codes))];
        for (out, (below, codes)) in out.as_chunks_mut::<16>().0.iter_mut().zip(halves) {
            let level = negated(below, level(_mm512_cvtepu8_epi32(codes)));
            let x = _mm512_add_ps(_mm512_mul_ps(scale, level), offset);
            // SAFETY: `out` has the 16 numbers that are written.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), x) };
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn avx512(planes: &[u32]) -> [u8; 32] {
        let codes = merged(planes);
        let mut out = [0; 32];
        // SAFETY: `out` has the 32 bytes that are written.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), codes) };
        out
    }
}

/// Defines a function whose body `$inner`, generic over [`Planes`] and `inline(always)`, is compiled once for each instruction set, one of
/// which it takes before the arguments. It gives the same bits on all of them, since the compiler does not fuse operations.
macro_rules! per_planes {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) = $inner:path) => {
        $(#[$meta])*
        #[allow(unsafe_code)]
        $vis fn $name(simd: $crate::kernel::Simd, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                use $crate::kernel::planes::x86::{Avx2, Avx512};

                #[target_feature(enable = "avx2,f16c")]
                fn avx2($($arg: $type),*) {
                    // SAFETY: this function has the feature.
                    $inner(unsafe { Avx2::new() }, $($arg),*);
                }
                #[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512vl")]
                fn avx512($($arg: $type),*) {
                    // SAFETY: as above.
                    $inner(unsafe { Avx512::new() }, $($arg),*);
                }
                match simd {
                    // SAFETY: `simd` is an available instruction set: `Simd::get` gives no other.
                    $crate::kernel::Simd::Avx2 => return unsafe { avx2($($arg),*) },
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

    #[test]
    fn codes_are_the_bits_of_their_planes_on_every_instruction_set() {
        #[inline(always)]
        fn read(reader: impl Planes, planes: &[u32], out: &mut [u8; 32]) {
            *out = reader.codes(planes);
        }
        per_planes! { fn codes(planes: &[u32], out: &mut [u8; 32]) = read }
        let all = [0x8000_0001_u32, 0xdead_beef, 0, u32::MAX, 0x1234_5678, 0x0f0f_f0f0, 7, 0xa5a5_5a5a];
        for n in 0..=all.len() {
            let expected: [u8; 32] =
                std::array::from_fn(|i| (0..n).map(|bit| ((all[bit] >> i & 1) as u8) << bit).sum());
            for simd in Simd::ALL.into_iter().filter(|simd| simd.is_available()) {
                let mut found = [0; 32];
                codes(simd, &all[..n], &mut found);
                assert_eq!(found, expected, "{simd}, {n}");
            }
        }
        // Levels that are odd about the middle of the codes, as those of every width are.
        let level = |n: usize, code: f32| (code - ((1_usize << n) as f32 - 1.0) / 2.0) * 0.37;
        for n in 1..=all.len() {
            #[inline(always)]
            fn numbers(reader: impl Planes, planes: &[u32], table: &[f32; 256], out: &mut [f32; 32]) {
                let level = |code: f32| table[code as usize];
                reader.place(planes, table, level, Affine { scale: 0.7, offset: -3.0 }, out);
            }
            per_planes! { fn place(planes: &[u32], table: &[f32; 256], out: &mut [f32; 32]) = numbers }
            let table = std::array::from_fn(|i| level(n, i as f32));
            for simd in Simd::ALL.into_iter().filter(|simd| simd.is_available()) {
                let (mut found, mut expected) = ([0.0; 32], [0; 32]);
                place(simd, &all[..n], &table, &mut found);
                codes(simd, &all[..n], &mut expected);
                assert_eq!(found, expected.map(|code| 0.7 * table[usize::from(code)] - 3.0), "{simd}, {n}");
            }
        }
    }
}
