//! How keys and values are stored.

use std::{fmt, ops::Range, str::FromStr};

use super::{BLOCK, Form, Heads};
use crate::FloatDtype;

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KvScheme {
    /// As computed, in `f32`.
    #[default]
    F32,
    /// Rounded to binary16.
    F16,
    /// Rounded to bfloat16.
    Bf16,
    /// One byte per element, and a scale per vector.
    Q8,
    /// Four bits per element: keys with a scale per channel and 64 tokens, as a few channels of keys are much larger than the
    /// others; values with a scale per 32 elements of a vector.
    Q4,
}

impl KvScheme {
    /// All schemes.
    pub const ALL: [Self; 5] = [Self::F32, Self::F16, Self::Bf16, Self::Q8, Self::Q4];

    /// The name used on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        }
    }

    /// Bytes that the keys and values of one head occupy after `tokens` tokens, for vectors of `dim` elements.
    pub fn bytes(self, dim: usize, tokens: usize) -> usize {
        let zeros = vec![0.0; dim * tokens];
        let mut head = Heads::new(self, 1, dim, 0);
        head.append(&zeros, &zeros);
        head.bytes()
    }

    /// The pieces in which to append `tokens` and attend from them, one after the other, so that the result does not depend on how
    /// many are read at once: where tokens share scales, a query attends to its own block in `f32`, and to those before it as
    /// they are encoded.
    pub fn pieces(self, tokens: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let by_block = [self.keys(), self.values()].iter().any(|form| matches!(form, Form::PerChannel { .. }));
        let (mut start, end) = (tokens.start, tokens.end);
        std::iter::from_fn(move || {
            let next = if by_block { end.min((start / BLOCK + 1) * BLOCK) } else { end };
            let piece = std::mem::replace(&mut start, next)..next;
            (!piece.is_empty()).then_some(piece)
        })
    }

    /// The form of keys.
    pub fn keys(self) -> Form {
        match self {
            Self::Q8 => Form::PerToken { curvature: 6.0 },
            Self::Q4 => Form::PerChannel { curvature: 0.6 },
            Self::F32 => Form::Floats(FloatDtype::F32),
            Self::F16 => Form::Floats(FloatDtype::F16),
            Self::Bf16 => Form::Floats(FloatDtype::Bf16),
        }
    }

    /// The form of values.
    pub fn values(self) -> Form {
        match self {
            Self::Q8 => Form::PerToken { curvature: 0.75 },
            Self::Q4 => Form::PerGroup { curvature: 0.4 },
            Self::F32 | Self::F16 | Self::Bf16 => self.keys(),
        }
    }
}

impl fmt::Display for KvScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KvScheme {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|scheme| scheme.name() == name);
        found.ok_or_else(|| format!("unknown cache `{name}`: expected one of {names}"))
    }
}
