//! Vectors as floats of a type.

use std::ops::Range;

use half::{bf16, f16};
use multiversion::multiversion;

use crate::{FloatDtype, dtype::widen_half};

impl FloatDtype {
    /// The largest magnitude of a number.
    pub(super) fn most(self) -> f32 {
        match self {
            Self::F32 => f32::MAX,
            Self::F16 => f16::MAX.to_f32(),
            Self::Bf16 => bf16::MAX.to_f32(),
        }
    }
}

/// Vectors of one length, which are appended over time.
#[derive(Clone, Debug)]
pub(super) struct Floats {
    dtype: FloatDtype,
    dim: usize,
    bytes: Vec<u8>,
}

impl Floats {
    pub(super) fn new(dtype: FloatDtype, dim: usize, capacity: usize) -> Self {
        Self { dtype, dim, bytes: Vec::with_capacity(capacity * dim * dtype.size()) }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() / (self.dim * self.dtype.size())
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Appends vectors, `[n, dim]`.
    pub(super) fn append(&mut self, vectors: &[f32]) {
        self.bytes.extend(self.dtype.narrow(vectors));
    }

    /// Vectors of a range, `[n, dim]`.
    pub(super) fn read(&self, which: Range<usize>, out: &mut [f32]) {
        let size = self.dim * self.dtype.size();
        widen(self.dtype, &self.bytes[which.start * size..which.end * size], out);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn widen(dtype: FloatDtype, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        FloatDtype::F32 => {
            out.iter_mut().zip(bytes.as_chunks().0).for_each(|(x, word)| *x = f32::from_le_bytes(*word));
        }
        FloatDtype::Bf16 => halves::<true>(bytes, out),
        FloatDtype::F16 => halves::<false>(bytes, out),
    }
}

#[inline(always)]
fn halves<const BF16: bool>(bytes: &[u8], out: &mut [f32]) {
    let words = bytes.as_chunks::<2>().0;
    out.iter_mut().zip(words).for_each(|(x, word)| *x = widen_half::<BF16>(u16::from_le_bytes(*word)));
}
