//! What is stored for a weight, and how many bits it costs.

use std::{fmt, str::FromStr};

/// How an encoded matrix rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Pattern A as first validated: the encoded value itself, as `f32`, in the complement form
    /// `u = sign(x)·α|x|/(1+α|x|)`. Saves nothing; decodes to the very bits of a bf16 source up to |x| = 2¹⁶/α, of an
    /// f16 source up to 2¹¹/α. Files call it `f32`.
    #[serde(rename = "f32", alias = "companded-f32")]
    CompandedF32,
    /// The very bits of the source, entropy-coded in the file: about 10.5 bits per weight of bf16.
    Lossless,
    /// One byte per weight, and for each group of 32 a scale and one of four curves: 0.375 bits per weight, the same for
    /// all grouped schemes below.
    Q8g,
    /// One byte per weight: sign and seven bits of the companded magnitude, with an `f16` scale and an `f16` curvature
    /// per row.
    Q8,
    /// Six bits per weight and the parameters of groups.
    Q6,
    /// Five bits per weight and the parameters of groups.
    Q5,
    /// Four bits per weight and the parameters of groups.
    Q4,
    /// Three bits per weight and the parameters of groups.
    Q3,
    /// Whole numbers of one step, entropy-coded in the file at the bits per weight that were asked for
    /// ([`EncodeOptions::rate`](crate::EncodeOptions::rate)).
    Rate,
}

impl Scheme {
    /// Every scheme, in the order of their size; last the one that takes the size it is told.
    pub const ALL: [Self; 9] =
        [Self::CompandedF32, Self::Lossless, Self::Q8g, Self::Q8, Self::Q6, Self::Q5, Self::Q4, Self::Q3, Self::Rate];

    /// What [`CompandedF32`](Self::CompandedF32) was called, and is in files still.
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

/// A scheme's name that is none.
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
