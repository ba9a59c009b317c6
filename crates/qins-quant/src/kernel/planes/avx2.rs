//! AVX2.

use core::arch::x86_64::*;

use super::{Affine, ByteLevels, Words};

/// AVX2.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The machine must have AVX2.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

impl Words for Avx2 {
    #[inline(always)]
    fn codes(self, planes: &[u32]) -> [u8; 32] {
        // SAFETY: a value of this type exists only on a machine that has AVX2.
        unsafe { codes(planes) }
    }

    #[inline(always)]
    fn numbers(self, bytes: &[u8; 32], levels: ByteLevels, affine: Affine, out: &mut [f32; 32]) {
        // SAFETY: as above.
        unsafe { numbers(bytes, levels, affine, out) }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn codes(planes: &[u32]) -> [u8; 32] {
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
fn numbers(bytes: &[u8; 32], levels: ByteLevels, affine: Affine, out: &mut [f32; 32]) {
    let [zero, step, scale, offset] =
        [levels.zero, levels.step, affine.scale, affine.offset].map(|x| _mm256_set1_ps(x));
    for (out, bytes) in out.as_chunks_mut::<8>().0.iter_mut().zip(bytes.as_chunks::<8>().0) {
        let bytes = _mm_cvtsi64_si128(i64::from_le_bytes(*bytes));
        let level = _mm256_mul_ps(_mm256_sub_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)), zero), step);
        // SAFETY: `out` has the 8 numbers that are written.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), _mm256_add_ps(_mm256_mul_ps(scale, level), offset)) };
    }
}
