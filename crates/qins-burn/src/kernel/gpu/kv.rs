//! Writing and reading vectors of the cache in kernels, in words; forms and curves are those of `qins_quant::kv`.

use burn_cubecl::cubecl;
use cubecl::prelude::*;
use qins_quant::{FloatDtype, kv};

use super::matrix::{f32_bits, widened};

/// Tokens that share the scale of a channel.
pub(super) const BLOCK: usize = kv::BLOCK;

/// The bits of the largest f16, 65504, and of a NaN.
const F16_MAX: u32 = 0x477f_e000;
const NAN: u32 = 0x7fc0_0000;

/// Units of a cube that encodes.
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
    /// Four codes per word, and a scale for each vector.
    PerToken {
        /// The bits of the curvature.
        k: u32,
    },
    /// Eight codes of a channel per word, and a scale for each channel of a block of tokens.
    PerChannel {
        /// The bits of the curvature.
        k: u32,
    },
    /// Eight codes per word, and a scale for each group of a vector.
    PerGroup {
        /// The bits of the curvature.
        k: u32,
    },
}

impl From<kv::Form> for Form {
    fn from(form: kv::Form) -> Self {
        match form {
            kv::Form::Floats(FloatDtype::F32) => Self::Float,
            kv::Form::Floats(dtype) => Self::Half { bf16: dtype == FloatDtype::Bf16 },
            kv::Form::PerToken { curvature } => Self::PerToken { k: curvature.to_bits() },
            kv::Form::PerChannel { curvature } => Self::PerChannel { k: curvature.to_bits() },
            kv::Form::PerGroup { curvature } => Self::PerGroup { k: curvature.to_bits() },
        }
    }
}

impl Form {
    /// The bits of the largest magnitude of an element, as `qins_quant::kv::Form::most` has it.
    fn most(self) -> u32 {
        match self {
            Self::Float => f32::MAX.to_bits(),
            Self::Half { bf16: true } => 0x7f7f_0000,
            Self::Half { bf16: false } | Self::PerToken { .. } | Self::PerChannel { .. } | Self::PerGroup { .. } => {
                F16_MAX
            }
        }
    }

    /// The number of words, of scales, and of `f32` elements of a head, for `tokens` tokens of `dim` elements.
    pub(super) fn sizes(self, dim: usize, tokens: usize) -> [usize; 3] {
        match self {
            Self::Float => [tokens * dim, 0, 0],
            Self::Half { .. } => [tokens * dim.div_ceil(2), 0, 0],
            Self::PerToken { .. } => [tokens * dim.div_ceil(4), tokens, 0],
            Self::PerGroup { .. } => [tokens * dim.div_ceil(8), tokens * dim.div_ceil(kv::GROUP), 0],
            Self::PerChannel { .. } => {
                let blocks = tokens.div_ceil(BLOCK);
                [blocks * dim * (BLOCK / 8), blocks * dim, BLOCK]
            }
        }
    }
}

/// Keys or values of all heads of a block, `[heads, …]` each.
#[derive(CubeLaunch, CubeType)]
pub(super) struct Vectors {
    words: Box<[u32]>,
    scales: Box<[f32]>,
    recent: Box<[f32]>,
    /// Elements from a head to the next.
    words_stride: u32,
    scales_stride: u32,
}

/// Element `c` of the vector of token `token`, of `len`.
#[cube]
pub(super) fn number(
    vectors: &Vectors,
    head: u32,
    token: u32,
    c: u32,
    len: u32,
    #[comptime] dim: u32,
    #[comptime] form: Form,
) -> f32 {
    let (words, scales) = (head * vectors.words_stride, head * vectors.scales_stride);
    match form {
        Form::Float => f32::reinterpret(vectors.words[(words + token * dim + c) as usize]),
        Form::Half { bf16 } => {
            let word = vectors.words[(words + token * comptime!(dim.div_ceil(2)) + c / 2) as usize];
            widened(word >> (16 * (c % 2)) & 0xffff, bf16)
        }
        Form::PerToken { k } => {
            let word = vectors.words[(words + token * comptime!(dim.div_ceil(4)) + c / 4) as usize];
            let code = word >> (8 * (c % 4)) & 255;
            let q = f32::cast_from(code & 127);
            let t = q / (127.0 + comptime!(f32::from_bits(k)) * (127.0 - q));
            vectors.scales[(scales + token) as usize] * select(code >= 128, -t, t)
        }
        Form::PerGroup { k } => {
            let groups = comptime!(dim.div_ceil(kv::GROUP as u32));
            let word = vectors.words[(words + token * comptime!(dim.div_ceil(8)) + c / 8) as usize];
            vectors.scales[(scales + token * groups + c / comptime!(kv::GROUP as u32)) as usize] * level4(word, c, k)
        }
        Form::PerChannel { k } => {
            let (block, within) = (token / comptime!(BLOCK as u32), token % comptime!(BLOCK as u32));
            // The last block is not encoded, even if it is full.
            if (block + 1) * comptime!(BLOCK as u32) < len {
                let channel = block * dim + c;
                let word = vectors.words[(words + channel * comptime!(BLOCK as u32 / 8) + within / 8) as usize];
                vectors.scales[(scales + channel) as usize] * level4(word, within, k)
            } else {
                vectors.recent[((head * comptime!(BLOCK as u32) + within) * dim + c) as usize]
            }
        }
    }
}

/// The level of code `i` of a word of eight, of 4 bits in two's complement.
#[cube]
fn level4(word: u32, i: u32, #[comptime] k: u32) -> f32 {
    let code = word >> (4 * (i % 8)) & 15;
    let q = f32::cast_from(code) - 2.0 * f32::cast_from(code & 8);
    level(q, k)
}

/// q / (8 + k·(8 − |q|)).
#[cube]
fn level(q: f32, #[comptime] k: u32) -> f32 {
    q / (8.0 + comptime!(f32::from_bits(k)) * (8.0 - q.abs()))
}

/// The code of 4 bits for t, from −8 to 7: the nearest in v = (1 + k)·t / (1 + k·|t|), in eighths.
#[cube]
fn code4(t: f32, #[comptime] k: u32) -> f32 {
    let k = comptime!(f32::from_bits(k));
    let v = (1.0 + k) * t / (1.0 + k * t.abs());
    (8.0 * v).round().clamp(-8.0, 7.0)
}

/// Appends keys or values of `n` more tokens, `[heads, n, dim]`, those from `first` on to `start` on; one cube per
/// vector.
#[cube(launch_unchecked)]
pub(super) fn append(
    new: &[f32],
    words: &mut [u32],
    scales: &mut [f32],
    recent: &mut [f32],
    words_stride: u32,
    scales_stride: u32,
    start: u32,
    n: u32,
    first: u32,
    #[comptime] dim: u32,
    #[comptime] form: Form,
) {
    let (token, head) = (start + CUBE_POS_X, CUBE_POS_Y);
    let from = (head * n + first + CUBE_POS_X) * dim;
    let (words_at, scales_at) = (head * words_stride, head * scales_stride);
    let unit = UNIT_POS;
    match form {
        Form::Float => {
            let at = words_at + token * dim;
            let mut c = unit;
            while c < dim {
                words[(at + c) as usize] = f32_bits(within(new[(from + c) as usize], comptime!(form.most())));
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
                let low = within(new[(from + c) as usize], comptime!(form.most()));
                let high = within(high, comptime!(form.most()));
                words[(at + word) as usize] = narrowed(low, bf16) | narrowed(high, bf16) << 16;
                word += UNITS;
            }
        }
        Form::PerToken { k } => {
            // Without the sign bit, bits order as the numbers do, and a NaN is the largest.
            let mut largest = Shared::<[u32]>::new_slice(comptime!(UNITS as usize));
            let mut mine = 0u32;
            let mut c = unit;
            while c < dim {
                mine = mine.max(f32_bits(new[(from + c) as usize]) & 0x7fff_ffff);
                c += UNITS;
            }
            largest[unit as usize] = mine;
            sync_cube();
            let mut most = 0u32;
            for i in 0..UNITS {
                most = most.max(largest[i as usize]);
            }
            // The next number with the 11-bit precision of f16.
            let scale = f32::reinterpret(select(most > F16_MAX, NAN, (most + 0x1fff) & 0xffff_e000));
            let inverse = select(most == 0, 0.0, 1.0 / scale);
            if unit == 0 {
                scales[(scales_at + token) as usize] = scale;
            }
            let at = words_at + token * comptime!(dim.div_ceil(4));
            let k = comptime!(f32::from_bits(k));
            let mut word = unit;
            while word < comptime!(dim.div_ceil(4)) {
                let mut codes = 0u32;
                #[unroll]
                for i in 0..4u32 {
                    let c = 4 * word + i;
                    if c < dim {
                        let x = new[(from + c) as usize];
                        let t = (x * inverse).abs().min(1.0);
                        let q = u32::cast_from((127.0 * ((1.0 + k) * t / (1.0 + k * t))).round());
                        codes |= (q | (f32_bits(x) >> 24 & 128)) << comptime!(8 * i);
                    }
                }
                words[(at + word) as usize] = codes;
                word += UNITS;
            }
        }
        Form::PerGroup { k } => {
            let groups = comptime!(dim.div_ceil(kv::GROUP as u32));
            let mut group = unit;
            while group < groups {
                let first = group * comptime!(kv::GROUP as u32);
                let count = comptime!(kv::GROUP as u32).min(dim - first);
                let scale = fitted(new, from + first, 1u32, count, k);
                scales[(scales_at + token * groups + group) as usize] = scale;
                let at = words_at + token * comptime!(dim.div_ceil(8)) + first / 8;
                pack(new, from + first, 1u32, count, scale, words, at, k);
                group += UNITS;
            }
        }
        Form::PerChannel { .. } => {
            let at = (head * comptime!(BLOCK as u32) + token % comptime!(BLOCK as u32)) * dim;
            let mut c = unit;
            while c < dim {
                recent[(at + c) as usize] = within(new[(from + c) as usize], comptime!(form.most()));
                c += UNITS;
            }
        }
    }
}

/// Encodes a completed block of tokens, channel by channel; one cube per head.
#[cube(launch_unchecked)]
pub(super) fn close(
    recent: &[f32],
    words: &mut [u32],
    scales: &mut [f32],
    words_stride: u32,
    scales_stride: u32,
    block: u32,
    #[comptime] dim: u32,
    #[comptime] k: u32,
) {
    let head = CUBE_POS_X;
    let mut c = UNIT_POS;
    while c < dim {
        let from = head * comptime!(BLOCK as u32 * dim) + c;
        let scale = fitted(recent, from, dim, comptime!(BLOCK as u32), k);
        let channel = block * dim + c;
        scales[(head * scales_stride + channel) as usize] = scale;
        let at = head * words_stride + channel * comptime!(BLOCK as u32 / 8);
        pack(recent, from, dim, comptime!(BLOCK as u32), scale, words, at, k);
        c += UNITS;
    }
}

/// x, or NaN if its magnitude is above that of these bits: saturated, or infinite, it could pass unnoticed.
#[cube]
fn within(x: f32, #[comptime] most: u32) -> f32 {
    let bits = f32_bits(x);
    f32::reinterpret(select((bits & 0x7fff_ffff) > most, NAN, bits))
}

/// The scale of `count` numbers, `step` apart, with the least error in 4 bits; NaN if one is beyond the range.
#[cube]
fn fitted(numbers: &[f32], from: u32, step: u32, count: u32, #[comptime] k: u32) -> f32 {
    // As with a scale per vector; its sign puts the largest on the side with one more level.
    let mut largest = 0u32;
    for i in 0..count {
        let bits = f32_bits(numbers[(from + i * step) as usize]);
        largest = select((bits & 0x7fff_ffff) > (largest & 0x7fff_ffff), bits, largest);
    }
    let negated = -f32::reinterpret(largest);
    let mut best = f16_bits(negated);
    let mut least = f32::new(f32::MAX);
    #[unroll]
    for i in 0..comptime!(kv::SCALES.len()) {
        let scale = f16_bits((negated * comptime!(kv::SCALES[i])).clamp(-65504.0, 65504.0));
        let inverse = 1.0 / scale;
        let mut error = 0.0f32;
        for i in 0..count {
            let x = numbers[(from + i * step) as usize];
            let e = x - scale * level(code4(x * inverse, k), k);
            error += e * e;
        }
        let better = error < least;
        least = select(better, error, least);
        best = select(better, scale, best);
    }
    f32::reinterpret(select((largest & 0x7fff_ffff) > F16_MAX, NAN, f32_bits(best)))
}

/// The 4-bit codes of `count` numbers, `step` apart, eight per word.
#[cube]
fn pack(numbers: &[f32], from: u32, step: u32, count: u32, scale: f32, words: &mut [u32], at: u32, #[comptime] k: u32) {
    let inverse = select(scale == 0.0, 0.0, 1.0 / scale);
    for word in 0..count.div_ceil(8) {
        let mut codes = 0u32;
        #[unroll]
        for i in 0..8u32 {
            let number = 8 * word + i;
            if number < count {
                let code = code4(numbers[(from + number * step) as usize] * inverse, k);
                codes |= (u32::cast_from(code + 16.0) & 15) << comptime!(4 * i);
            }
        }
        words[(at + word) as usize] = codes;
    }
}

/// x rounded to the 11-bit precision of f16, to nearest, within its range.
#[cube]
fn f16_bits(x: f32) -> f32 {
    let bits = f32_bits(x);
    let rounded = (bits + 0xfff + (bits >> 13 & 1)) & 0xffff_e000;
    // NaN stays NaN.
    f32::reinterpret(select((bits & 0x7fff_ffff) > 0x7f80_0000, bits, rounded))
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
