//! What is stored for a weight, and how many bits it costs.

use std::{fmt, str::FromStr};

use qins_codec::Alpha;

/// How an encoded matrix rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Pattern A as first validated: the encoded value itself, as `f32`, in the complement form
    /// `u = sign(x)·α|x|/(1+α|x|)`. Saves nothing; decodes to the very bits of a bf16 source up to |x| = 2¹⁶/α, of an
    /// f16 source up to 2¹¹/α.
    F32,
    /// One byte per weight: sign and seven bits of the companded magnitude, with an `f16` scale and an `f16` curvature
    /// per row.
    Q8,
}

impl Scheme {
    /// Every scheme, in the order of their size.
    pub const ALL: [Self; 2] = [Self::F32, Self::Q8];

    /// The name used in configuration files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Q8 => "q8",
        }
    }

    /// Bytes at rest of a `[rows, cols]` matrix, parameters included.
    pub const fn bytes(self, [rows, cols]: [usize; 2]) -> usize {
        match self {
            Self::F32 => rows * cols * 4 + 4,
            Self::Q8 => rows * cols + rows * 4,
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
#[error("unknown scheme `{0}`: expected one of f32, q8")]
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
    /// the weights use of it.
    pub alpha: Option<Alpha>,
}
