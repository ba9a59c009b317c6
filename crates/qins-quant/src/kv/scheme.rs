//! How keys and values are stored.

use std::{fmt, ops::Range, str::FromStr};

use super::{BLOCK, CodedBits, coded::MOST_SCALE};
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
    /// A byte per number.
    Q8,
    /// 5 bits per number of keys, on average, and of values.
    K5v5,
    /// 5 bits of keys, 4 of values.
    K5v4,
    /// 4 bits of both.
    K4v4,
    /// 3 bits of both.
    K3v3,
}

/// What a scheme stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvForm {
    /// Rotated keys, and values, as floats of a type.
    Floats(FloatDtype),
    /// Keys before their rotation, and values, in blocks of codes.
    Coded(CodedBits),
}

impl KvScheme {
    /// All schemes.
    pub const ALL: [Self; 8] =
        [Self::F32, Self::F16, Self::Bf16, Self::Q8, Self::K5v5, Self::K5v4, Self::K4v4, Self::K3v3];

    /// The name used on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8 => "q8",
            Self::K5v5 => "k5v5",
            Self::K5v4 => "k5v4",
            Self::K4v4 => "k4v4",
            Self::K3v3 => "k3v3",
        }
    }

    /// What it stores.
    pub const fn form(self) -> KvForm {
        match self {
            Self::F32 => KvForm::Floats(FloatDtype::F32),
            Self::F16 => KvForm::Floats(FloatDtype::F16),
            Self::Bf16 => KvForm::Floats(FloatDtype::Bf16),
            Self::Q8 => KvForm::Coded(CodedBits { keys: 8, values: 8 }),
            Self::K5v5 => KvForm::Coded(CodedBits { keys: 5, values: 5 }),
            Self::K5v4 => KvForm::Coded(CodedBits { keys: 5, values: 4 }),
            Self::K4v4 => KvForm::Coded(CodedBits { keys: 4, values: 4 }),
            Self::K3v3 => KvForm::Coded(CodedBits { keys: 3, values: 3 }),
        }
    }

    /// Bytes that the keys and values of one head occupy after `tokens` tokens, for vectors of `dim` elements.
    pub fn bytes(self, dim: usize, tokens: usize) -> usize {
        let numbers: Vec<f32> = (0..dim * tokens).map(|i| (i % 7) as f32).collect();
        let mut head = super::Heads::new(self, 1, dim);
        head.append(super::NewTokens { keys: &numbers, values: &numbers, queries: &numbers }, None);
        head.bytes()
    }

    /// Bits per number of the first 2,048 tokens once their blocks are closed, for vectors of `dim` elements: codes, scales, offsets, means,
    /// the choice of bits and the first, plain tokens. The latest 64 tokens or fewer are in `f32` besides.
    pub fn bits_per_number(self, dim: usize) -> f64 {
        const TOKENS: usize = 2048;
        // The token after a block closes it.
        let last = match self.form() {
            KvForm::Floats(dtype) => 2 * dim * dtype.size(),
            KvForm::Coded(_) => 2 * dim * size_of::<f32>(),
        };
        (8 * (self.bytes(dim, TOKENS + 1) - last)) as f64 / (2 * dim * TOKENS) as f64
    }

    /// The pieces in which to append `tokens` and attend from them, one after the other, so that the result does not depend on how
    /// many are read at once: where tokens share scales, a query attends to its own block in `f32`, and to those before it as
    /// they are encoded.
    pub fn pieces(self, tokens: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let by_block = matches!(self.form(), KvForm::Coded(_));
        let (mut start, end) = (tokens.start, tokens.end);
        std::iter::from_fn(move || {
            let next = if by_block { end.min((start / BLOCK + 1) * BLOCK) } else { end };
            let piece = std::mem::replace(&mut start, next)..next;
            (!piece.is_empty()).then_some(piece)
        })
    }
}

impl KvForm {
    /// The largest magnitudes of an element of keys, and of values, in vectors of `dim`: those of the type, or those whose sums in any
    /// combination still have a scale.
    pub fn most(self, dim: usize) -> [f32; 2] {
        match self {
            Self::Floats(dtype) => [dtype.most(); 2],
            // Twice that from their mean; all of a vector in one channel of its transform.
            Self::Coded(_) => [MOST_SCALE / 2.0, MOST_SCALE / (dim as f32).sqrt()],
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

    /// By its name; `q4` is `k4v4`, and `auto` is `q8`.
    fn from_str(name: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name).join(", ");
        let name = match name {
            "q4" => "k4v4",
            "auto" => "q8",
            name => name,
        };
        let found = Self::ALL.into_iter().find(|scheme| scheme.name() == name);
        found.ok_or_else(|| format!("unknown cache `{name}`: expected one of {names}, q4 (k4v4) or auto (q8)"))
    }
}
