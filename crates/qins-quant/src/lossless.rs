//! The source's own bits, cut and turned so that an entropy coder finds what repeats.
//!
//! A float's sign is a coin toss, its exponent takes few values, and its mantissa nearly all. Turned left by one bit, the
//! sign comes last: the words then order by magnitude, and a coder of values that are near each other (see
//! [`entropy`](crate::entropy)) pays for the exponent and for what little the mantissa tells. Of `f32` the upper half is
//! such a word of bf16, and the lower half, noise or nothing, is kept apart. The bits are only moved, so −0 and what a NaN
//! carries come back as they were.

use half::{bf16, f16};

use crate::{FloatDtype, dtype::chunks};

/// The source's words apart: 16 bits each, turned left by one bit, and the lower halves of 32-bit ones, if they are. All
/// little-endian.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Words {
    /// The words, or their upper halves.
    pub high: Vec<u8>,
    /// The lower halves of `f32`; empty of other types.
    pub low: Vec<u8>,
}

impl Words {
    /// Takes the bytes of floats apart.
    pub(crate) fn new(bytes: &[u8], dtype: FloatDtype) -> Self {
        let turned = |word: [u8; 2]| u16::from_le_bytes(word).rotate_left(1).to_le_bytes();
        match dtype {
            FloatDtype::F16 | FloatDtype::Bf16 => {
                Self { high: chunks(bytes).flat_map(turned).collect(), low: Vec::new() }
            }
            FloatDtype::F32 => {
                let (low, high) =
                    chunks(bytes).map(|[a, b, c, d]| ([a, b], turned([c, d]))).unzip::<_, _, Vec<_>, Vec<_>>();
                Self { high: high.concat(), low: low.concat() }
            }
        }
    }

    /// The bytes of so many floats from element `first` on, as they were.
    pub(crate) fn bytes(&self, first: usize, n: usize, dtype: FloatDtype) -> Vec<u8> {
        let range = 2 * first..2 * (first + n);
        let high = chunks(&self.high[range.clone()]).map(turn_back);
        match dtype {
            FloatDtype::F16 | FloatDtype::Bf16 => high.flat_map(u16::to_le_bytes).collect(),
            FloatDtype::F32 => {
                let low = chunks(&self.low[range]).map(u16::from_le_bytes);
                high.zip(low).flat_map(|(high, low)| joined(high, low).to_le_bytes()).collect()
            }
        }
    }

    /// The numbers of `out.len()` floats from element `first` on.
    pub(crate) fn widen(&self, first: usize, dtype: FloatDtype, out: &mut [f32]) {
        let range = 2 * first..2 * (first + out.len());
        let high = chunks(&self.high[range.clone()]).map(turn_back);
        match dtype {
            FloatDtype::F16 => out.iter_mut().zip(high).for_each(|(out, word)| *out = f16::from_bits(word).to_f32()),
            FloatDtype::Bf16 => out.iter_mut().zip(high).for_each(|(out, word)| *out = bf16::from_bits(word).to_f32()),
            FloatDtype::F32 => {
                let low = chunks(&self.low[range]).map(u16::from_le_bytes);
                for (out, (high, low)) in out.iter_mut().zip(high.zip(low)) {
                    *out = f32::from_bits(joined(high, low));
                }
            }
        }
    }
}

fn joined(high: u16, low: u16) -> u32 {
    (u32::from(high) << 16) | u32::from(low)
}

fn turn_back(word: [u8; 2]) -> u16 {
    u16::from_le_bytes(word).rotate_right(1)
}
