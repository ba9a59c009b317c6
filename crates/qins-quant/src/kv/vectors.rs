//! Encoded vectors of one length, appended over time.

use std::ops::Range;

use half::{bf16, f16};
use multiversion::multiversion;
use qins_codec::{Code, Curvature};

use crate::{FloatDtype, dtype::widen_half};

/// Tokens that share the scale of a channel, and that attention decodes together.
pub const BLOCK: usize = 64;
/// Elements of a vector that share a scale.
pub const GROUP: usize = 32;

/// Scales that are tried, as multiples of the one under which the largest element is the last level.
pub const SCALES: [f32; 7] = [0.82, 0.88, 0.94, 1.0, 1.06, 1.12, 1.18];

/// How vectors are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    /// As floats of a type.
    Floats(FloatDtype),
    /// 8 bits per element, and a scale per vector.
    PerToken {
        /// The curvature of the levels.
        curvature: f32,
    },
    /// 4 bits per element, and a scale per channel and [`BLOCK`] of tokens. A block is kept in `f32` until the next one begins.
    PerChannel {
        /// The curvature of the levels.
        curvature: f32,
    },
    /// 4 bits per element, and a scale per [`GROUP`] of a vector.
    PerGroup {
        /// The curvature of the levels.
        curvature: f32,
    },
}

impl Form {
    /// The largest magnitude of an element: that of the type, or of the `f16` scales.
    pub fn most(self) -> f32 {
        match self {
            Self::Floats(FloatDtype::F32) => f32::MAX,
            Self::Floats(FloatDtype::Bf16) => bf16::MAX.to_f32(),
            Self::Floats(FloatDtype::F16) | Self::PerToken { .. } | Self::PerChannel { .. } | Self::PerGroup { .. } => {
                f16::MAX.to_f32()
            }
        }
    }

    /// The curve of a 4-bit form.
    fn curve4(self) -> Option<Curvature> {
        match self {
            Self::PerChannel { curvature } | Self::PerGroup { curvature } => Some(curve(curvature)),
            Self::Floats(_) | Self::PerToken { .. } => None,
        }
    }
}

/// Vectors of one length, such as the keys of one head, which are appended and decoded in blocks.
#[derive(Clone, Debug)]
pub struct Vectors {
    form: Form,
    dim: usize,
    len: usize,
    /// The codes, or the bytes of floats, vector by vector.
    bytes: Vec<u8>,
    /// In the order of the codes that they belong to.
    scales: Vec<f16>,
    /// The vectors of the last block, if it is encoded as a whole.
    recent: Vec<f32>,
    /// The first finite element that was beyond the range of the form.
    beyond: Option<f32>,
}

impl Vectors {
    pub(super) fn new(form: Form, dim: usize, capacity: usize) -> Self {
        let mut vectors =
            Self { form, dim, len: 0, bytes: Vec::new(), scales: Vec::new(), recent: Vec::new(), beyond: None };
        vectors.bytes.reserve(capacity * vectors.bytes_of_vector());
        vectors
    }

    /// The number of vectors.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no vectors.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.bytes.len() + 2 * self.scales.len() + 4 * self.recent.len()
    }

    /// Removes all vectors, and keeps the allocated memory.
    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.bytes.clear();
        self.scales.clear();
        self.recent.clear();
        self.beyond = None;
    }

    /// The first finite element that was beyond the range of the form, and so became NaN.
    pub(super) fn beyond(&self) -> Option<f32> {
        self.beyond
    }

    /// Encodes and appends vectors, `[n, dim]`, row-major. An element that is not finite or beyond the range of the form becomes
    /// NaN, with all that share a scale with it: saturated, or infinite, it could pass unnoticed.
    pub(super) fn append(&mut self, vectors: &[f32]) {
        let most = self.form.most();
        // Without an early end, so that it vectorises; nearly always all are within.
        if vectors.iter().fold(true, |all, x| all & (x.abs() <= most)) {
            return self.encode(vectors);
        }
        self.beyond = self.beyond.or_else(|| vectors.iter().copied().find(|x| x.is_finite() && x.abs() > most));
        let marked: Vec<f32> = vectors.iter().map(|x| if x.abs() <= most { *x } else { f32::NAN }).collect();
        self.encode(&marked);
    }

    /// Appends vectors whose elements are within the range, or NaN.
    fn encode(&mut self, vectors: &[f32]) {
        self.len += vectors.len() / self.dim;
        match self.form {
            Form::Floats(dtype) => self.bytes.extend(dtype.narrow(vectors)),
            Form::PerToken { curvature } => {
                let curvature = curve(curvature);
                for vector in vectors.chunks_exact(self.dim) {
                    let scale = rounded_up(vector.iter().fold(0.0, |largest: f32, x| worse(largest, x.abs())));
                    self.scales.push(scale);
                    let inverse = inverse(scale.to_f32());
                    let code = |x: &f32| Code::encode(x * inverse, curvature).unwrap_or(Code::from_bits(0)).to_bits();
                    self.bytes.extend(vector.iter().map(code));
                }
            }
            Form::PerGroup { .. } => {
                for vector in vectors.chunks_exact(self.dim) {
                    let mut codes = vec![0; self.dim];
                    for (group, codes) in vector.chunks(GROUP).zip(codes.chunks_mut(GROUP)) {
                        let scale = self.fitted_scale(group.iter());
                        self.scales.push(scale);
                        self.encode4(group, codes, |_| scale);
                    }
                    self.pack(&codes);
                }
            }
            Form::PerChannel { .. } => {
                for vector in vectors.chunks_exact(self.dim) {
                    // Not as soon as it is full: its own queries attend to it first.
                    if self.recent.len() == BLOCK * self.dim {
                        self.close_block();
                    }
                    self.recent.extend_from_slice(vector);
                }
            }
        }
    }

    /// Encodes a full block.
    fn close_block(&mut self) {
        let block = std::mem::take(&mut self.recent);
        let channel = |c: usize| block.iter().skip(c).step_by(self.dim);
        let scales: Vec<f16> = (0..self.dim).map(|c| self.fitted_scale(channel(c))).collect();
        let mut codes = vec![0; self.dim];
        for vector in block.chunks_exact(self.dim) {
            self.encode4(vector, &mut codes, |c| scales[c]);
            self.pack(&codes);
        }
        self.scales.extend(scales);
        self.recent = block;
        self.recent.clear();
    }

    fn encode4(&self, elements: &[f32], codes: &mut [u8], scale: impl Fn(usize) -> f16) {
        let Some(curve) = self.form.curve4() else { return };
        for (i, (x, code)) in elements.iter().zip(codes).enumerate() {
            // As two's complement.
            *code = code4(x * inverse(scale(i).to_f32()), curve) as i8 as u8 & 15;
        }
    }

    /// The scale of least error for elements in 4 bits. Its sign puts the largest element on the side with one level more. That
    /// element may saturate, or leave levels beyond it unused.
    fn fitted_scale<'a>(&self, elements: impl Iterator<Item = &'a f32> + Clone) -> f16 {
        let Some(curve) = self.form.curve4() else { return f16::ZERO };
        // A NaN counts as the largest.
        let worst = |largest: f32, x: &f32| if largest.abs() < x.abs() || x.is_nan() { *x } else { largest };
        let largest = elements.clone().fold(0.0, worst);
        let mut best = (f32::INFINITY, if largest > 0.0 { -rounded_up(largest) } else { rounded_up(-largest) });
        if largest == 0.0 || !largest.is_finite() {
            return best.1;
        }
        for multiple in SCALES {
            let scale = f16::from_f32((-largest * multiple).clamp(-f16::MAX.to_f32(), f16::MAX.to_f32()));
            let (wide, inverse) = (scale.to_f32(), inverse(scale.to_f32()));
            let error = elements.clone().map(|x| {
                let e = x - wide * curve.level(code4(x * inverse, curve), 8.0);
                e * e
            });
            let error = error.sum::<f32>();
            if error < best.0 {
                best = (error, scale);
            }
        }
        best.1
    }

    /// Packs two codes per byte: those of the vector's first half in the lower bits, those of its second half in the upper.
    fn pack(&mut self, codes: &[u8]) {
        let (low, high) = codes.split_at(codes.len().div_ceil(2));
        self.bytes.extend(low.iter().enumerate().map(|(i, code)| code | high.get(i).copied().unwrap_or(0) << 4));
    }

    fn bytes_of_vector(&self) -> usize {
        match self.form {
            Form::Floats(dtype) => self.dim * dtype.size(),
            Form::PerToken { .. } => self.dim,
            Form::PerChannel { .. } | Form::PerGroup { .. } => self.dim.div_ceil(2),
        }
    }

    /// Decodes a range of vectors into `out`, `[n, dim]`. It is fastest within one [`BLOCK`].
    ///
    /// # Panics
    /// When the range goes beyond the vectors, or `out` is not of its length.
    pub fn decode(&self, which: Range<usize>, out: &mut [f32]) {
        assert!(
            which.end <= self.len && out.len() == which.len() * self.dim,
            "decode: a range of the vectors, and an output of its length"
        );
        decode(self, which, out);
    }
}

/// The result is the same on all instruction sets: all operations are those of IEEE 754, and none is fused.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn decode(vectors: &Vectors, which: Range<usize>, out: &mut [f32]) {
    let dim = vectors.dim;
    let closed = vectors.len - vectors.recent.len() / dim;
    let size = vectors.bytes_of_vector();
    // The scales of a block of tokens, widened once per block.
    let mut channels: (Option<usize>, Vec<f32>) = (None, Vec::new());
    for (at, out) in which.zip(out.chunks_exact_mut(dim)) {
        if at >= closed {
            out.copy_from_slice(&vectors.recent[(at - closed) * dim..][..dim]);
            continue;
        }
        let bytes = &vectors.bytes[at * size..][..size];
        match vectors.form {
            Form::Floats(FloatDtype::F32) => {
                let words = bytes.as_chunks::<4>().0;
                out.iter_mut().zip(words).for_each(|(x, word)| *x = f32::from_le_bytes(*word));
            }
            Form::Floats(FloatDtype::Bf16) => halves::<true>(bytes, out),
            Form::Floats(FloatDtype::F16) => halves::<false>(bytes, out),
            Form::PerToken { curvature } => {
                let (curve, scale) = (curve(curvature), widened(vectors.scales[at]));
                for (x, code) in out.iter_mut().zip(bytes) {
                    let t = curve.level(f32::from(code & 127), 127.0);
                    *x = scale * f32::from_bits(t.to_bits() | u32::from(code & 128) << 24);
                }
            }
            Form::PerChannel { curvature } => {
                let block = at / BLOCK;
                if channels.0 != Some(block) {
                    let scales = &vectors.scales[block * dim..][..dim];
                    channels = (Some(block), scales.iter().map(|scale| widened(*scale)).collect());
                }
                unpack(bytes, curve(curvature), out);
                out.iter_mut().zip(&channels.1).for_each(|(x, scale)| *x *= scale);
            }
            Form::PerGroup { curvature } => {
                unpack(bytes, curve(curvature), out);
                let groups = dim.div_ceil(GROUP);
                for (out, scale) in out.chunks_mut(GROUP).zip(&vectors.scales[at * groups..]) {
                    let scale = widened(*scale);
                    out.iter_mut().for_each(|x| *x *= scale);
                }
            }
        }
    }
}

#[inline(always)]
fn halves<const BF16: bool>(bytes: &[u8], out: &mut [f32]) {
    let words = bytes.as_chunks::<2>().0;
    out.iter_mut().zip(words).for_each(|(x, word)| *x = widen_half::<BF16>(u16::from_le_bytes(*word)));
}

/// The levels of 4-bit codes, which are two's complement.
#[inline(always)]
fn unpack(bytes: &[u8], curve: Curvature, out: &mut [f32]) {
    // In the upper half of a byte, a code has its sign in the sign bit.
    let level = |high: u8| curve.level(f32::from(high.cast_signed() >> 4), 8.0);
    let (low, high) = out.split_at_mut(bytes.len());
    low.iter_mut().zip(bytes).for_each(|(x, byte)| *x = level(byte << 4));
    high.iter_mut().zip(bytes).for_each(|(x, byte)| *x = level(byte & 0xf0));
}

fn widened(scale: f16) -> f32 {
    widen_half::<false>(scale.to_bits())
}

/// The curvatures are those of [`KvScheme`](super::KvScheme), which are valid.
fn curve(k: f32) -> Curvature {
    Curvature::new(k).unwrap_or(Curvature::LINEAR)
}

/// The 4-bit code of t, from −8 to 7: the nearest to 8·v, where v = (1 + k)·t / (1 + k·|t|).
#[inline(always)]
fn code4(t: f32, curve: Curvature) -> f32 {
    let k = curve.get();
    let v = (1.0 + k) * t / (1.0 + k * t.abs());
    (8.0 * v).round_ties_even().clamp(-8.0, 7.0)
}

/// The larger of the two; NaN if either is.
fn worse(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) }
}

/// The smallest f16 not below x, which is within its range, so that no element lies beyond its scale; NaN if x is NaN.
fn rounded_up(x: f32) -> f16 {
    let nearest = f16::from_f32(x);
    if nearest.to_f32() < x { f16::from_bits(nearest.to_bits() + 1) } else { nearest }
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}
