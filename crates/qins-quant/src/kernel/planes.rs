//! Codes in bit planes: a word of 32 bits for each bit of 32 codes.

#![allow(unsafe_code)]

/// Turns planes into codes. A value of the type exists only on a machine that has the instruction set.
pub(crate) trait Planes: Copy {
    /// Code i is made of bit i of each plane, the lowest first; at most eight planes.
    fn codes(self, planes: &[u32]) -> [u8; 32];

    /// Whether [`look_up`](Self::look_up) is faster than a division.
    const LOOKS_UP: bool = false;

    /// The numbers of codes of at most five planes in a table.
    #[inline(always)]
    fn look_up(self, planes: &[u32], table: &[f32; 32]) -> [f32; 32] {
        self.codes(planes).map(|code| table[usize::from(code) % 32])
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

    use super::Planes;

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
    }

    impl Planes for Avx512 {
        #[inline(always)]
        fn codes(self, planes: &[u32]) -> [u8; 32] {
            // SAFETY: a value of this type exists only on a machine that has these parts of AVX-512.
            unsafe { avx512(planes) }
        }

        const LOOKS_UP: bool = true;

        #[inline(always)]
        fn look_up(self, planes: &[u32], table: &[f32; 32]) -> [f32; 32] {
            // SAFETY: as above.
            unsafe { look_up(planes, table) }
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
    fn look_up(planes: &[u32], table: &[f32; 32]) -> [f32; 32] {
        let codes = merged(planes);
        let mut out = [0.0_f32; 32];
        // SAFETY: `table` and `out` each have the 32 numbers that are read and written.
        unsafe {
            let (low, high) = (_mm512_loadu_ps(table.as_ptr()), _mm512_loadu_ps(table[16..].as_ptr()));
            let of = |codes| _mm512_permutex2var_ps(low, _mm512_cvtepu8_epi32(codes), high);
            _mm512_storeu_ps(out.as_mut_ptr(), of(_mm256_castsi256_si128(codes)));
            _mm512_storeu_ps(out[16..].as_mut_ptr(), of(_mm256_extracti128_si256::<1>(codes)));
        }
        out
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
        #[inline(always)]
        fn numbers(reader: impl Planes, planes: &[u32], table: &[f32; 32], out: &mut [f32; 32]) {
            *out = reader.look_up(planes, table);
        }
        per_planes! { fn look_up(planes: &[u32], table: &[f32; 32], out: &mut [f32; 32]) = numbers }
        let table = std::array::from_fn(|i| i as f32);
        for simd in Simd::ALL.into_iter().filter(|simd| simd.is_available()) {
            let (mut found, mut expected) = ([0.0; 32], [0; 32]);
            look_up(simd, &all[..5], &table, &mut found);
            codes(simd, &all[..5], &mut expected);
            assert_eq!(found, expected.map(f32::from), "{simd}");
        }
    }
}
