//! GGUF's Q8_0: blocks of 32, an `f16` d = max|x|/127, then the codes −127 … 127.

use super::{Format, inverse, largest, push_f16, read_f16};

pub(super) const Q8_0: Format = Format { name: "Q8_0", block: Some(32), encode, decode };

fn encode(x: &[f32], bytes: &mut Vec<u8>) {
    // The reference rounds with d as it was before it became an f16.
    let d = largest(x) / 127.0;
    push_f16(bytes, d);
    let inverse = inverse(d);
    bytes.extend(x.iter().map(|x| (x * inverse).round() as i8 as u8));
}

fn decode(bytes: &[u8], x: &mut [f32]) {
    let (d, codes) = bytes.split_at(2);
    let d = read_f16(d);
    x.iter_mut().zip(codes).for_each(|(x, &code)| *x = d * f32::from(code as i8));
}

#[cfg(test)]
#[test]
fn q8_0_is_itself() {
    let block: Vec<f32> = (0..32).map(|i| (127 - 8 * i) as f32 / 4096.0).collect();
    super::tests::check(&Q8_0, &block, 8.5, [45.4, 43.5]);
}
