//! Where the parts of a row lie.

use qins_codec::Curvature;

use crate::Scheme;

/// The layout of a grouped scheme. The codes of a row are a whole number of 32-bit words; its scales and selectors are as
/// many bytes as they need, and where a device has no bytes they are filled up to words when they are put there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    scheme: Scheme,
    bits: usize,
}

impl Layout {
    /// Weights that share a scale and a curve.
    pub const GROUP: usize = 32;

    /// Groups that share an `f16` scale.
    pub const SUPER: usize = 8;

    /// Curves a group may choose from.
    pub const CURVES: usize = 4;

    /// The layout of `scheme`, whose codes have `bits` bits.
    pub(crate) const fn new(scheme: Scheme, bits: usize) -> Self {
        Self { scheme, bits }
    }

    /// Whose layout it is.
    pub const fn scheme(self) -> Scheme {
        self.scheme
    }

    /// Bits of a code.
    pub const fn bits(self) -> usize {
        self.bits
    }

    /// 2ᵇ⁻¹: codes go from minus this to one less than this.
    pub(super) const fn steps(bits: usize) -> f32 {
        (1_u32 << (bits - 1)) as f32
    }

    /// Whether levels of so many bits are whole numbers of 1/127. A weight is then a product of whole numbers, which kernels
    /// take exactly and a byte at a time. On Gaussian and Student-t(5) weights it costs 0.06 dB at five bits and 0.02 at
    /// fewer; at six it would cost 0.17 and 0.27.
    pub const fn has_byte_levels(bits: usize) -> bool {
        bits <= 5
    }

    /// The level t of the code q, in −2ᵇ⁻¹..2ᵇ⁻¹, of `bits` bits on a curve.
    #[inline(always)]
    pub(crate) fn level(bits: usize, curve: Curvature, q: f32) -> f32 {
        let level = curve.level(q, Self::steps(bits));
        if Self::has_byte_levels(bits) {
            // Added to 1.5·2²³, whose ulp is 1, a number is rounded to a whole one, to even where it lies between two.
            const ROUND: f32 = 12_582_912.0;
            ((127.0 * level + ROUND) - ROUND) * (1.0 / 127.0)
        } else {
            level
        }
    }

    /// Bytes of the codes of one group.
    pub const fn group_bytes(self) -> usize {
        Self::GROUP / 8 * self.bits
    }

    /// Bytes of the codes of a row, whose last group is filled up.
    pub const fn packed(self, cols: usize) -> usize {
        cols.div_ceil(Self::GROUP).saturating_mul(self.group_bytes())
    }

    /// Super-blocks of a row.
    pub const fn scales(self, cols: usize) -> usize {
        cols.div_ceil(Self::GROUP * Self::SUPER)
    }

    /// Bytes of the groups' scales of a row: one a group.
    pub const fn group_scales(self, cols: usize) -> usize {
        cols.div_ceil(Self::GROUP)
    }

    /// Bytes of the groups' selectors of a row: four a byte.
    pub const fn selectors(self, cols: usize) -> usize {
        cols.div_ceil(4 * Self::GROUP)
    }
}
