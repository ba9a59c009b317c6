//! The bits of the source, split and rotated for an entropy coder.
//!
//! A float's sign is random, its exponent takes few values, and its mantissa nearly all. Rotated left by one bit, the
//! sign comes last, so that words sort by magnitude, and a coder that bins nearby values (see
//! [`entropy`](crate::entropy)) pays for the exponent and the little that is predictable in the mantissa. Of an `f32` the
//! upper half is such a bf16 word, and the lower half, noise or zero, is stored separately. Bits are only moved, so −0 and
//! NaN payloads are preserved.

use std::ops::Range;

use half::{bf16, f16};

use super::{Element, EncodeOptions, Extent, MatrixFormat, PartSpec, StoredForm, Weights, stride_of_halves};
use crate::{EncodeError, FloatDtype, Prune, Scheme, range::ScaleRange};

/// 16-bit words rotated left by one bit; the lower halves of `f32` are a separate part.
pub(super) struct Lossless;

impl StoredForm for Lossless {
    fn parts(&self, source: FloatDtype, cols: usize) -> Vec<PartSpec> {
        let part = |name| PartSpec::new(name, Element::U16, Extent::Rows(cols));
        match source {
            FloatDtype::F16 | FloatDtype::Bf16 => vec![part("packed")],
            FloatDtype::F32 => vec![part("packed"), part("low")],
        }
    }

    fn encode(&self, format: &MatrixFormat, weights: &Weights<'_>) -> Result<Vec<Vec<u32>>, EncodeError> {
        if weights.options.prune != Prune::NONE {
            return Err(EncodeError::Prune(Scheme::Lossless));
        }
        Ok(split(format, &format.source().narrow(weights.values)))
    }

    fn is_lossless(&self) -> bool {
        true
    }

    fn scale_range(&self, _: usize, _: &EncodeOptions) -> Option<ScaleRange> {
        None
    }

    fn check(&self, _: &MatrixFormat, _: &[&[u32]]) -> Result<(), EncodeError> {
        // Any bits are valid, NaN and ±∞ included.
        Ok(())
    }

    fn plain_in_memory(&self, source: FloatDtype) -> Option<FloatDtype> {
        Some(source)
    }

    fn encode_bytes(&self, format: &MatrixFormat, bytes: &[u8]) -> Option<Vec<Vec<u32>>> {
        Some(split(format, bytes))
    }

    fn source_bytes(&self, format: &MatrixFormat, parts: &[&[u32]], rows: Range<usize>) -> Option<Vec<u8>> {
        let cols = format.cols();
        let row = |part: usize, row: usize| {
            let words: &[u16] = bytemuck::cast_slice(parts[part]);
            words[row * stride_of_halves(cols)..][..cols].iter().copied()
        };
        Some(match format.source() {
            FloatDtype::F16 | FloatDtype::Bf16 => {
                rows.flat_map(|r| row(0, r)).flat_map(|word| turn_back(word).to_le_bytes()).collect()
            }
            FloatDtype::F32 => rows
                .flat_map(|r| row(0, r).zip(row(1, r)))
                .flat_map(|(high, low)| joined(high, low).to_le_bytes())
                .collect(),
        })
    }
}

/// Splits the bytes of floats.
fn split(format: &MatrixFormat, bytes: &[u8]) -> Vec<Vec<u32>> {
    let (source, cols) = (format.source(), format.cols());
    let row = cols.saturating_mul(source.size()).max(1);
    let part = |word: &dyn Fn(&[u8]) -> u16| {
        let mut words = vec![0_u32; bytes.len() / row * stride_of_halves(cols) / 2];
        let rows = bytemuck::cast_slice_mut::<u32, u16>(&mut words).chunks_mut(stride_of_halves(cols).max(1));
        for (out, row) in rows.zip(bytes.chunks_exact(row)) {
            out.iter_mut().zip(row.chunks_exact(source.size())).for_each(|(out, number)| *out = word(number));
        }
        words
    };
    let upper = |number: &[u8]| {
        let [.., a, b] = *number else { return 0 };
        u16::from_le_bytes([a, b]).rotate_left(1)
    };
    let lower = |number: &[u8]| {
        let [a, b, ..] = *number else { return 0 };
        u16::from_le_bytes([a, b])
    };
    match source {
        FloatDtype::F16 | FloatDtype::Bf16 => vec![part(&upper)],
        FloatDtype::F32 => vec![part(&upper), part(&lower)],
    }
}

/// Decodes a row.
pub(crate) fn widen_row(high: &[u16], low: &[u16], source: FloatDtype, out: &mut [f32]) {
    let high = high.iter().copied();
    match source {
        FloatDtype::F16 => out.iter_mut().zip(high).for_each(|(out, w)| *out = f16::from_bits(turn_back(w)).to_f32()),
        FloatDtype::Bf16 => out.iter_mut().zip(high).for_each(|(out, w)| *out = bf16::from_bits(turn_back(w)).to_f32()),
        FloatDtype::F32 => {
            for (out, (high, low)) in out.iter_mut().zip(high.zip(low)) {
                *out = f32::from_bits(joined(high, *low));
            }
        }
    }
}

/// The bits of an `f32`.
fn joined(high: u16, low: u16) -> u32 {
    (u32::from(turn_back(high)) << 16) | u32::from(low)
}

fn turn_back(word: u16) -> u16 {
    word.rotate_right(1)
}
