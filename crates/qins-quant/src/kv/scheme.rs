//! How keys and values rest.

use std::{fmt, str::FromStr};

use super::{Form, Heads};
use crate::FloatDtype;

/// How keys and values rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KvScheme {
    /// As they are computed.
    #[default]
    F32,
    /// Rounded to binary16.
    F16,
    /// Rounded to bfloat16.
    Bf16,
    /// One byte a number, and a scale for each vector.
    Q8,
    /// Four bits a number: keys with a scale for each channel over 64 tokens, as a few of their channels are much larger than
    /// all others; values with a scale for each 32 numbers of a vector.
    Q4,
}

impl KvScheme {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::F32, Self::F16, Self::Bf16, Self::Q8, Self::Q4];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        }
    }

    /// Bytes of the keys and values of a head after `tokens` tokens, vectors of `dim` numbers.
    pub fn bytes(self, dim: usize, tokens: usize) -> usize {
        let zeros = vec![0.0; dim * tokens];
        let mut head = Heads::new(self, 1, dim, 0);
        head.append(&zeros, &zeros);
        head.bytes()
    }

    /// How keys rest.
    pub fn keys(self) -> Form {
        match self {
            Self::Q8 => Form::Tokens { curvature: 6.0 },
            Self::Q4 => Form::Channels { curvature: 0.6 },
            _ => self.floats(),
        }
    }

    /// How values rest.
    pub fn values(self) -> Form {
        match self {
            Self::Q8 => Form::Tokens { curvature: 0.75 },
            Self::Q4 => Form::Groups { curvature: 0.4 },
            _ => self.floats(),
        }
    }

    fn floats(self) -> Form {
        Form::Floats(match self {
            Self::F16 => FloatDtype::F16,
            Self::Bf16 => FloatDtype::Bf16,
            _ => FloatDtype::F32,
        })
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
