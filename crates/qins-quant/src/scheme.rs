//! What is stored for a weight, and how many bits it costs.

use std::{fmt, str::FromStr};

use qins_codec::Alpha;

use crate::Layout;

/// How an encoded matrix rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Pattern A as first validated: the encoded value itself, as `f32`, in the complement form
    /// `u = sign(x)·α|x|/(1+α|x|)`. Saves nothing; decodes to the very bits of a bf16 source up to |x| = 2¹⁶/α, of an
    /// f16 source up to 2¹¹/α.
    F32,
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
}

impl Scheme {
    /// Every scheme, in the order of their size.
    pub const ALL: [Self; 7] = [Self::F32, Self::Q8g, Self::Q8, Self::Q6, Self::Q5, Self::Q4, Self::Q3];

    /// The form of what is stored.
    pub const fn form(self) -> Form {
        let bits = match self {
            Self::F32 => return Form::F32,
            Self::Q8 => return Form::Q8,
            Self::Q8g => 8,
            Self::Q6 => 6,
            Self::Q5 => 5,
            Self::Q4 => 4,
            Self::Q3 => 3,
        };
        Form::Grouped(Layout::new(self, bits))
    }

    /// The name used in configuration files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Q8g => "q8g",
            Self::Q8 => "q8",
            Self::Q6 => "q6",
            Self::Q5 => "q5",
            Self::Q4 => "q4",
            Self::Q3 => "q3",
        }
    }
}

/// What the schemes are by construction: all that handles what is stored asks for this, not for the scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Whole values.
    F32,
    /// Rows of bytes.
    Q8,
    /// Groups of codes.
    Grouped(Layout),
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
        Self::ALL.into_iter().find(|s| s.name() == name).ok_or_else(|| ParseSchemeError(name.to_owned()))
    }
}

/// Choices an encoder leaves to its caller.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EncodeOptions {
    /// A fixed α. Without it `f32` takes the report's α = 1 and `q8` fits a curvature to each row.
    ///
    /// For `q8` a fixed α means what it meant in the report: the codes divide the whole of z ∈ [0, 1], whatever range
    /// the weights use of it. The grouped schemes have no α to fix.
    pub alpha: Option<Alpha>,
}
