//! int8: `code·s`, codes −127 … 127, with an `f16` s = max|x|/127 per row.

use super::{Format, inverse, largest, push_f16, read_f16};

pub(super) const INT8: Format = Format { name: "int8", block: None, encode, decode };

fn encode(x: &[f32], bytes: &mut Vec<u8>) {
    let inverse = inverse(push_f16(bytes, largest(x) / 127.0));
    bytes.extend(x.iter().map(|x| (x * inverse).round().clamp(-127.0, 127.0) as i8 as u8));
}

fn decode(bytes: &[u8], x: &mut [f32]) {
    let (scale, codes) = bytes.split_at(2);
    let scale = read_f16(scale);
    x.iter_mut().zip(codes).for_each(|(x, &code)| *x = scale * f32::from(code as i8));
}

#[cfg(test)]
#[test]
fn int8_is_itself() {
    let row: Vec<f32> = (-127..=127).map(|code| code as f32 / 4096.0).collect();
    super::tests::check(&INT8, &row, 8.0 + 16.0 / 3072.0, [41.3, 33.9]);
}
