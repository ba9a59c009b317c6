//! The schemes.

use std::{fmt, str::FromStr};

/// How a matrix is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// "Pattern A" of the source report: the companded value as `f32`, in the complement form
    /// `u = sign(x)·α|x|/(1+α|x|)`. Saves nothing; exact for a bf16 source up to |x| = 2¹⁶/α, for an
    /// f16 source up to 2¹¹/α. Named `f32` in files.
    #[serde(rename = "f32", alias = "companded-f32")]
    CompandedF32,
    /// The bits of the source, entropy-coded in the file: about 10.5 bits per weight for bf16.
    Lossless,
    /// Eight bits per weight, and for each group of 32 a scale and one of four curves: another 0.375 bits per weight, as in
    /// all grouped schemes.
    Q8g,
    /// One byte per weight, a sign and seven bits of the companded magnitude, and an `f16` scale and an `f16` curvature
    /// per row.
    Q8,
    /// Six bits per weight, grouped.
    Q6,
    /// Five bits per weight, grouped.
    Q5,
    /// Four bits per weight, grouped.
    Q4,
    /// Three bits per weight, grouped.
    Q3,
    /// Integer multiples of one step, entropy-coded in the file at the requested bits per weight
    /// ([`EncodeOptions::rate`](crate::EncodeOptions::rate)).
    Rate,
}

impl Scheme {
    /// Every scheme, by decreasing size; last the one whose size is an option.
    pub const ALL: [Self; 9] =
        [Self::CompandedF32, Self::Lossless, Self::Q8g, Self::Q8, Self::Q6, Self::Q5, Self::Q4, Self::Q3, Self::Rate];

    /// The former name of [`CompandedF32`](Self::CompandedF32), still used in files.
    const FORMER_NAME: &str = "f32";

    /// The name used on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CompandedF32 => "companded-f32",
            Self::Lossless => "lossless",
            Self::Q8g => "q8g",
            Self::Q8 => "q8",
            Self::Q6 => "q6",
            Self::Q5 => "q5",
            Self::Q4 => "q4",
            Self::Q3 => "q3",
            Self::Rate => "rate",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An unknown scheme name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown scheme `{0}`: expected one of {names}", names = Scheme::ALL.map(Scheme::name).join(", "))]
pub struct ParseSchemeError(String);

impl FromStr for Scheme {
    type Err = ParseSchemeError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        if name == Self::FORMER_NAME {
            return Ok(Self::CompandedF32);
        }
        Self::ALL.into_iter().find(|s| s.name() == name).ok_or_else(|| ParseSchemeError(name.to_owned()))
    }
}
