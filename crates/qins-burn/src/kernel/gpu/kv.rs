//! Writing and reading vectors of the cache in kernels, in words.

use burn_cubecl::cubecl;
use cubecl::prelude::*;
use qins_quant::FloatDtype;

use super::matrix::{f32_bits, widened};

/// The bits of a NaN.
const NAN: u32 = 0x7fc0_0000;

/// Units of a cube that appends.
pub(super) const UNITS: u32 = 32;

/// How the vectors of a cache are stored; kernels are compiled for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Form {
    /// One word each.
    Float,
    /// Two per word.
    Half {
        /// Otherwise f16.
        bf16: bool,
    },
}

impl From<FloatDtype> for Form {
    fn from(dtype: FloatDtype) -> Self {
        match dtype {
            FloatDtype::F32 => Self::Float,
            FloatDtype::F16 => Self::Half { bf16: false },
            FloatDtype::Bf16 => Self::Half { bf16: true },
        }
    }
}

impl Form {
    /// The number of words of a head, for `tokens` tokens of `dim` elements.
    pub(super) fn words(self, dim: usize, tokens: usize) -> usize {
        match self {
            Self::Float => tokens * dim,
            Self::Half { .. } => tokens * dim.div_ceil(2),
        }
    }
}

/// Keys or values of all heads of a block, `[heads, …]` each.
#[derive(CubeLaunch, CubeType)]
pub(super) struct Vectors {
    words: Box<[u32]>,
    /// Elements from a head to the next.
    stride: u32,
}

/// Element `c` of the vector of token `token`.
#[cube]
pub(super) fn number(
    vectors: &Vectors,
    head: u32,
    token: u32,
    c: u32,
    #[comptime] dim: u32,
    #[comptime] form: Form,
) -> f32 {
    let words = head * vectors.stride;
    match form {
        Form::Float => f32::reinterpret(vectors.words[(words + token * dim + c) as usize]),
        Form::Half { bf16 } => {
            let word = vectors.words[(words + token * comptime!(dim.div_ceil(2)) + c / 2) as usize];
            widened(word >> (16 * (c % 2)) & 0xffff, bf16)
        }
    }
}

/// Appends keys or values of `n` more tokens, `[heads, n, dim]`, those from `first` on to `start` on; one cube per
/// vector. An element of a larger magnitude than that with the bits `most` is NaN.
#[cube(launch_unchecked)]
pub(super) fn append(
    new: &[f32],
    words: &mut [u32],
    stride: u32,
    start: u32,
    n: u32,
    first: u32,
    most: u32,
    #[comptime] dim: u32,
    #[comptime] form: Form,
) {
    let (token, head) = (start + CUBE_POS_X, CUBE_POS_Y);
    let from = (head * n + first + CUBE_POS_X) * dim;
    let words_at = head * stride;
    let unit = UNIT_POS;
    match form {
        Form::Float => {
            let at = words_at + token * dim;
            let mut c = unit;
            while c < dim {
                words[(at + c) as usize] = f32_bits(within(new[(from + c) as usize], most));
                c += UNITS;
            }
        }
        Form::Half { bf16 } => {
            let at = words_at + token * comptime!(dim.div_ceil(2));
            let mut word = unit;
            while word < comptime!(dim.div_ceil(2)) {
                let c = 2 * word;
                let other = c + 1 < dim;
                let high = select(other, new[(from + select(other, c + 1, c)) as usize], 0.0);
                let low = within(new[(from + c) as usize], most);
                let high = within(high, most);
                words[(at + word) as usize] = narrowed(low, bf16) | narrowed(high, bf16) << 16;
                word += UNITS;
            }
        }
    }
}

/// x, or NaN if its magnitude is above that of these bits: saturated, or infinite, it could pass unnoticed.
#[cube]
pub(super) fn within(x: f32, most: u32) -> f32 {
    let bits = f32_bits(x);
    f32::reinterpret(select((bits & 0x7fff_ffff) > most, NAN, bits))
}

/// The bits of a number in a 16-bit type, rounded to nearest, ties to even.
#[cube]
pub(super) fn narrowed(x: f32, #[comptime] bf16: bool) -> u32 {
    let bits = f32_bits(x);
    let (sign, rest) = (bits >> 16 & 0x8000, bits & 0x7fff_ffff);
    let nan = rest > 0x7f80_0000;
    if comptime!(bf16) {
        let rounded = (rest + 0x7fff + (rest >> 16 & 1)) >> 16;
        sign | select(nan, 0x7fc0u32, rounded)
    } else {
        // Below 2⁻¹⁴ they are multiples of 2⁻²⁴; from 65,520 on they are infinite.
        let small = u32::cast_from((x.abs() * 16_777_216.0).round());
        let normal = (rest + 0xfff + (rest >> 13 & 1) - 0x3800_0000) >> 13;
        let finite = select(rest < 0x3880_0000, small, normal);
        sign | select(nan, 0x7e00u32, select(rest >= 0x477f_f000, 0x7c00u32, finite))
    }
}
