//! MXFP4 of the OCP microscaling formats: blocks of 32 FP4 E2M1 numbers and the exponent of their scale, laid out as
//! GGUF does.

use super::{Format, largest};

pub(super) const MXFP4: Format = Format { name: "MXFP4", block: Some(32), encode, decode };

/// E2M1 by code: bit 3 is the sign.
const LEVELS: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// 2^(exponent − 127).
fn power(exponent: u8) -> f32 {
    2.0_f64.powi(i32::from(exponent) - 127) as f32
}

fn encode(x: &[f32], bytes: &mut Vec<u8>) {
    // The largest weight comes to lie in [4, 8); what is above 6 saturates.
    let largest = largest(x);
    let exponent = if largest > 0.0 { (largest.log2().floor() + 125.0) as u8 } else { 0 };
    let scale = power(exponent);
    // The first of two equally near levels: the one nearer to zero.
    let error = |x: f32, code: u8| (LEVELS[usize::from(code)] * scale - x).abs();
    let nearest = |x: f32| (0..16).min_by(|a, b| error(x, *a).total_cmp(&error(x, *b))).unwrap_or(0);
    bytes.push(exponent);
    let (low, high) = x.split_at(16);
    bytes.extend(low.iter().zip(high).map(|(l, h)| nearest(*l) | nearest(*h) << 4));
}

fn decode(bytes: &[u8], x: &mut [f32]) {
    let scale = power(bytes[0]);
    let (low, high) = x.split_at_mut(16);
    for ((l, h), byte) in low.iter_mut().zip(high).zip(&bytes[1..]) {
        *l = scale * LEVELS[usize::from(byte & 15)];
        *h = scale * LEVELS[usize::from(byte >> 4)];
    }
}

#[cfg(test)]
#[test]
fn mxfp4_is_itself() {
    let block: Vec<f32> = LEVELS.iter().chain(&LEVELS).map(|level| level / 64.0).collect();
    super::tests::check(&MXFP4, &block, 4.25, [18.9, 18.0]);
}
