//! The width of a code, as a value and as a constant.

use qins_codec::Curvature;

/// The width of a grouped scheme's codes, in bits.
///
/// Whatever depends on it matches on it without a catch-all, and so does not compile while a new width is undecided. That is
/// why the enum is exhaustive for other crates too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// 3 bits.
    W3 = 3,
    /// 4 bits.
    W4 = 4,
    /// 5 bits.
    W5 = 5,
    /// 6 bits.
    W6 = 6,
    /// 8 bits.
    W8 = 8,
}

impl Width {
    /// All widths, narrowest first.
    pub const ALL: [Self; 5] = [Self::W3, Self::W4, Self::W5, Self::W6, Self::W8];

    /// Bits per code.
    ///
    /// ```
    /// assert_eq!(qins_quant::Width::W6.bits(), 6);
    /// ```
    pub const fn bits(self) -> usize {
        self as usize
    }

    /// The width of a constant number of bits; a number that is no width does not compile.
    #[inline(always)]
    pub(crate) const fn of<const BITS: usize>() -> Self {
        const {
            let mut i = 0;
            while i < Self::ALL.len() && Self::ALL[i].bits() != BITS {
                i += 1;
            }
            assert!(i < Self::ALL.len(), "no width has so many bits");
            Self::ALL[i]
        }
    }

    /// Whether levels are whole multiples of 1/127. A weight is then a product of two signed bytes, which kernels compute
    /// exactly and a byte at a time. On Gaussian and Student-t(5) weights it costs 0.06 dB at 5 bits and 0.02 dB below;
    /// at 6 it would cost 0.17 and 0.27 dB.
    pub const fn has_byte_levels(self) -> bool {
        with_bits!(self, byte_levels _BITS => true, word_levels _BITS => false)
    }

    /// 2ᵇ⁻¹: codes go from minus this to one less than this.
    pub(crate) const fn steps(self) -> f32 {
        (1_u32 << (self.bits() - 1)) as f32
    }

    /// The level t of the code q, in −2ᵇ⁻¹..2ᵇ⁻¹, on a curve.
    #[inline(always)]
    pub(crate) fn level(self, curve: Curvature, q: f32) -> f32 {
        let level = curve.level(q, self.steps());
        if self.has_byte_levels() {
            // Adding 1.5·2²³, whose ulp is 1, rounds to the nearest integer, ties to even.
            const ROUND: f32 = 12_582_912.0;
            ((127.0 * level + ROUND) - ROUND) * (1.0 / 127.0)
        } else {
            level
        }
    }
}

/// Evaluates an expression with the bits of a [`Width`] as a constant.
///
/// This is the only place where a width known at run time becomes one known at compile time. The longer form takes one
/// expression for widths whose levels are bytes and another for those whose levels are words.
macro_rules! with_bits {
    ($width:expr, $BITS:ident => $body:expr) => {
        with_bits!($width, byte_levels $BITS => $body, word_levels $BITS => $body)
    };
    ($width:expr, byte_levels $BYTE_BITS:ident => $bytes:expr, word_levels $WORD_BITS:ident => $words:expr) => {
        match $width {
            $crate::Width::W3 => with_bits!(@constant W3, $BYTE_BITS, $bytes),
            $crate::Width::W4 => with_bits!(@constant W4, $BYTE_BITS, $bytes),
            $crate::Width::W5 => with_bits!(@constant W5, $BYTE_BITS, $bytes),
            $crate::Width::W6 => with_bits!(@constant W6, $WORD_BITS, $words),
            $crate::Width::W8 => with_bits!(@constant W8, $WORD_BITS, $words),
        }
    };
    (@constant $variant:ident, $BITS:ident, $body:expr) => {{
        const $BITS: usize = $crate::Width::$variant.bits();
        $body
    }};
}
pub(crate) use with_bits;
