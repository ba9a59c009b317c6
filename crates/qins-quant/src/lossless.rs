//! The source's own bits, turned so that an entropy coder finds what repeats.
//!
//! A float's sign is a coin toss, its exponent takes few values, and its mantissa nearly all. Turned left by one bit, the
//! sign comes last: the words then order by magnitude, and a coder of values that are near each other (see
//! [`entropy`](crate::entropy)) pays for the exponent and for what little the mantissa tells. The bits are only moved, so
//! −0 and what a NaN carries come back as they were.

use half::{bf16, f16};

use crate::{FloatDtype, dtype::chunks};

/// Little-endian words of the size of `dtype`, each turned left by one bit.
pub(crate) fn turn(bytes: &[u8], dtype: FloatDtype) -> Vec<u8> {
    match dtype.size() {
        2 => chunks(bytes).flat_map(|b| u16::from_le_bytes(b).rotate_left(1).to_le_bytes()).collect(),
        _ => chunks(bytes).flat_map(|b| u32::from_le_bytes(b).rotate_left(1).to_le_bytes()).collect(),
    }
}

/// The words as they were.
pub(crate) fn turn_back(words: &[u8], dtype: FloatDtype) -> Vec<u8> {
    match dtype.size() {
        2 => chunks(words).flat_map(|b| u16::from_le_bytes(b).rotate_right(1).to_le_bytes()).collect(),
        _ => chunks(words).flat_map(|b| u32::from_le_bytes(b).rotate_right(1).to_le_bytes()).collect(),
    }
}

/// Turned words as the numbers they stand for.
pub(crate) fn widen(words: &[u8], dtype: FloatDtype, out: &mut [f32]) {
    let word = |b| u16::from_le_bytes(b).rotate_right(1);
    match dtype {
        FloatDtype::F32 => each(words, out, |b| f32::from_bits(u32::from_le_bytes(b).rotate_right(1))),
        FloatDtype::F16 => each(words, out, |b| f16::from_bits(word(b)).to_f32()),
        FloatDtype::Bf16 => each(words, out, |b| bf16::from_bits(word(b)).to_f32()),
    }
}

fn each<const N: usize>(words: &[u8], out: &mut [f32], number: impl Fn([u8; N]) -> f32) {
    out.iter_mut().zip(chunks(words)).for_each(|(out, word)| *out = number(word));
}
