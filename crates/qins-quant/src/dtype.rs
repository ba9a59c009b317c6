//! Element types of tensors in files, and the floating-point ones of plain checkpoints.

use std::fmt;

use half::{bf16, f16};

use crate::first::first;

/// A floating-point storage type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum FloatDtype {
    /// IEEE binary32.
    #[serde(rename = "float32")]
    F32,
    /// IEEE binary16.
    #[serde(rename = "float16")]
    F16,
    /// bfloat16: the upper half of binary32.
    #[serde(rename = "bfloat16")]
    Bf16,
}

impl FloatDtype {
    /// The name in PyTorch and in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The safetensors type, if it is one of the three.
    pub fn from_safetensors(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            // A file may have any other type.
            _ => None,
        }
    }

    /// The same type in safetensors.
    pub const fn safetensors(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }

    /// Little-endian bytes of this type, widened to `f32` without loss.
    ///
    /// The length of `bytes` should be a multiple of [`size`](Self::size); a remainder is ignored.
    pub fn widen(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F32 => chunks(bytes).map(f32::from_le_bytes).collect(),
            Self::F16 => chunks(bytes).map(|b| f16::from_le_bytes(b).to_f32()).collect(),
            Self::Bf16 => chunks(bytes).map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
        }
    }

    /// The little-endian bytes of `values` rounded to this type, to nearest even.
    pub fn narrow(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::F16 => values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
            Self::Bf16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
        }
    }

    /// The index and value of the first NaN or infinity among little-endian numbers of this type.
    pub fn first_non_finite(self, bytes: &[u8]) -> Option<(usize, f32)> {
        // All bits of the exponent are set.
        let is = |word: u16, ones: u16| word & ones == ones;
        let index = match self {
            Self::F32 => first(bytes.as_chunks().0, |[_, _, b, c]| is(u16::from_le_bytes([*b, *c]), 0x7f80)),
            Self::F16 => first(bytes.as_chunks().0, |b| is(u16::from_le_bytes(*b), 0x7c00)),
            Self::Bf16 => first(bytes.as_chunks().0, |b| is(u16::from_le_bytes(*b), 0x7f80)),
        }?;
        Some((index, self.widen(&bytes[index * self.size()..][..self.size()])[0]))
    }

    /// `x` rounded to this type, to nearest even, as `f32`.
    #[inline]
    pub fn round(self, x: f32) -> f32 {
        match self {
            Self::F32 => x,
            Self::F16 => f16::from_f32(x).to_f32(),
            // As `half` does, but without branches, so that a loop over it vectorises.
            Self::Bf16 => {
                let bits = x.to_bits();
                let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
                f32::from_bits(if x.is_nan() { bits | 0x40_0000 } else { rounded } & 0xffff_0000)
            }
        }
    }
}

/// The element type of a tensor in a safetensors file, including types that this crate does not read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Dtype(safetensors::Dtype);

#[allow(missing_docs)]
impl Dtype {
    pub const U8: Self = Self(safetensors::Dtype::U8);
    pub const I8: Self = Self(safetensors::Dtype::I8);
    pub const U16: Self = Self(safetensors::Dtype::U16);
    pub const F16: Self = Self(safetensors::Dtype::F16);
    pub const BF16: Self = Self(safetensors::Dtype::BF16);
    pub const I32: Self = Self(safetensors::Dtype::I32);
    pub const U32: Self = Self(safetensors::Dtype::U32);
    pub const F32: Self = Self(safetensors::Dtype::F32);
    pub const I64: Self = Self(safetensors::Dtype::I64);
}

impl Dtype {
    /// Bits per element.
    pub fn bitsize(self) -> usize {
        self.0.bitsize()
    }

    pub(crate) const fn of(dtype: safetensors::Dtype) -> Self {
        Self(dtype)
    }

    pub(crate) const fn get(self) -> safetensors::Dtype {
        self.0
    }
}

/// `BF16`.
impl fmt::Debug for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The value of an `f16` or `bf16`; without branches, as above.
#[inline(always)]
pub(crate) fn widen_half<const BF16: bool>(word: u16) -> f32 {
    let word = u32::from(word);
    if BF16 {
        return f32::from_bits(word << 16);
    }
    // The exponent is shifted into place; a multiplication by a power of two corrects its bias, for subnormals too.
    let magnitude = f32::from_bits((word & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
    let infinite = if word & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(magnitude.to_bits() | infinite | (word & 0x8000) << 16)
}

pub(crate) fn chunks<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branch_free_conversions_match_half() {
        for word in 0..=u16::MAX {
            let (short, long) = (widen_half::<false>(word), f16::from_bits(word).to_f32());
            assert!(short.to_bits() == long.to_bits() || short.is_nan() && long.is_nan(), "f16 {word:#x}");
            assert_eq!(widen_half::<true>(word).to_bits(), u32::from(word) << 16, "bf16 {word:#x}");
            // Around every bf16, ties included.
            for low in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let x = f32::from_bits(u32::from(word) << 16 | low);
                let half = bf16::from_f32(x).to_f32();
                assert_eq!(FloatDtype::Bf16.round(x).to_bits(), half.to_bits(), "{x}");
            }
        }
    }
}
