//! FP8 E4M3 (the variant without infinities, largest 448), with an `f16` scale max|x|/448 per row.

use super::{Format, inverse, largest, push_f16, read_f16};

pub(super) const FP8: Format = Format { name: "FP8 E4M3", block: None, encode, decode };

const MAX: f32 = 448.0;

fn encode(x: &[f32], bytes: &mut Vec<u8>) {
    let inverse = inverse(push_f16(bytes, largest(x) / MAX));
    bytes.extend(x.iter().map(|x| to_e4m3(x * inverse)));
}

fn decode(bytes: &[u8], x: &mut [f32]) {
    let (scale, codes) = bytes.split_at(2);
    let scale = read_f16(scale);
    x.iter_mut().zip(codes).for_each(|(x, &code)| *x = scale * from_e4m3(code));
}

/// 2 to the power of `e`, within the normal numbers.
fn power(e: i32) -> f32 {
    f32::from_bits(((e + 127) as u32) << 23)
}

/// To the nearest, ties to even, beyond ±448 to ±448.
fn to_e4m3(x: f32) -> u8 {
    let magnitude = x.abs().min(MAX);
    // Below 2⁻⁶ lie the subnormal numbers, in steps as just above it.
    let exponent = ((magnitude.to_bits() >> 23) as i32 - 127).max(-6);
    let mantissa = (magnitude / power(exponent - 3)).round_ties_even() as i32;
    // A mantissa that rounds up to 16 carries into the exponent by itself.
    let code = ((exponent + 6) << 3) + mantissa;
    code as u8 | if x.is_sign_negative() { 0x80 } else { 0 }
}

fn from_e4m3(code: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(code >> 3 & 15), f32::from(code & 7));
    let magnitude = if exponent == 0 { mantissa * power(-9) } else { (8.0 + mantissa) * power(exponent - 10) };
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
#[test]
fn fp8_is_itself() {
    let finite = (0..=255_u8).filter(|code| code & 0x7f != 0x7f);
    let row: Vec<f32> = finite.map(|code| from_e4m3(code) / 4096.0).collect();
    super::tests::check(&FP8, &row, 8.0 + 16.0 / 3072.0, [31.6, 31.6]);
}
