//! Scales in a byte: the upper byte of a positive `f16`, five bits of exponent and three of mantissa.

use half::f16;

/// The largest scale.
pub(in crate::kv) const MOST_SCALE: f32 = 61_440.0;

/// A scale in a byte; the largest codes are NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Scale(u8);

impl Scale {
    /// The largest finite one.
    const MOST: Self = Self(0xf7);
    /// Not a number.
    pub(super) const NAN: Self = Self(0xff);

    /// The smallest that is not below `x`; NaN if `x` is, or is beyond the largest.
    pub(super) fn at_least(x: f32) -> Self {
        if x.is_nan() || x > MOST_SCALE {
            return Self::NAN;
        }
        let nearest = f16::from_f32(x).to_bits();
        let up = nearest + u16::from(f16::from_bits(nearest).to_f32() < x);
        Self(((up + 0x7f) >> 7) as u8)
    }

    /// The scale `steps` further, each a factor of 2^(1/8) on average; never zero or NaN, unless it was.
    pub(super) fn stepped(self, steps: i32) -> Self {
        if self == Self::NAN || self.0 == 0 {
            return self;
        }
        Self((i32::from(self.0) + steps).clamp(1, i32::from(Self::MOST.0)) as u8)
    }

    /// The byte.
    pub(super) fn to_bits(self) -> u8 {
        self.0
    }

    /// Its value.
    pub(super) fn to_f32(self) -> f32 {
        scale(self.0)
    }
}

/// The value of a scale's byte.
#[inline(always)]
pub(super) fn scale(bits: u8) -> f32 {
    crate::dtype::widen_half::<false>(u16::from(bits) << 7)
}

/// 1/x, or 0 for 0.
#[inline(always)]
pub(super) fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}
