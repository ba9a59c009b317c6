//! NF4 of QLoRA: blocks of 64, sixteen quantiles of a Gaussian, scaled by the block's largest magnitude.
//!
//! That magnitude is stored here as an `f16`: 4.25 bits per weight. As an `f32` it would be 4.5; quantised once more, with
//! 8 bits a block and an `f32` per 256 blocks, about 4.13.

use super::{Format, inverse, largest, push_f16, read_f16, search::nearest};

pub(super) const NF4: Format = Format { name: "NF4", block: Some(64), encode, decode };

/// The levels as published.
const LEVELS: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

fn encode(x: &[f32], bytes: &mut Vec<u8>) {
    let inverse = inverse(push_f16(bytes, largest(x)));
    let code = |x: f32| nearest(&LEVELS, x * inverse) as u8;
    bytes.extend(x.as_chunks().0.iter().map(|&[first, second]| code(first) << 4 | code(second)));
}

fn decode(bytes: &[u8], x: &mut [f32]) {
    let (scale, codes) = bytes.split_at(2);
    let scale = read_f16(scale);
    for (pair, code) in x.as_chunks_mut::<2>().0.iter_mut().zip(codes) {
        *pair = [code >> 4, code & 15].map(|code| scale * LEVELS[usize::from(code)]);
    }
}

#[cfg(test)]
#[test]
fn nf4_is_itself() {
    let block: Vec<f32> = LEVELS.repeat(4).iter().map(|level| level / 16.0).collect();
    super::tests::check(&NF4, &block, 4.25, [20.7, 19.6]);
}
