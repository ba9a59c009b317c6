//! The type of a tensor's numbers in a file.

use std::fmt;

/// The type of a tensor's numbers in a safetensors file, of which there are more than this crate reads.
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
    /// Bits of a number.
    pub fn bitsize(self) -> usize {
        self.0.bitsize()
    }

    pub(super) const fn of(dtype: safetensors::Dtype) -> Self {
        Self(dtype)
    }

    pub(super) const fn get(self) -> safetensors::Dtype {
        self.0
    }
}

/// `BF16`.
impl fmt::Debug for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
