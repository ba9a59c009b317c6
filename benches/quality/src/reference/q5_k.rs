//! GGUF's Q5_K: thirty-two levels with scale and offset; the fifth bits lie together before the nibbles.

use super::{Format, k_affine};

pub(super) const Q5_K: Format = Format { name: "Q5_K", block: Some(256), encode, decode };

fn encode(x: &[f32], bytes: &mut Vec<u8>) {
    let levels = k_affine::encode(x, 31.0, (0..=15).map(|i| 31.0 - 0.5 + 0.1 * i as f32), bytes);
    bytes.extend((0..32).map(|i| (0..8).fold(0, |fifths, group| fifths | levels[group * 32 + i] >> 4 << group)));
    for pair in levels.chunks_exact(64) {
        let (low, high) = pair.split_at(32);
        bytes.extend(low.iter().zip(high).map(|(l, h)| l & 15 | h << 4));
    }
}

fn decode(bytes: &[u8], x: &mut [f32]) {
    let (parameters, levels) = bytes.split_at(k_affine::BYTES);
    let (fifths, nibbles) = levels.split_at(32);
    let fifth = |i: usize| fifths[i % 32] >> (i / 32) & 1;
    let nibble = |i: usize| nibbles[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
    k_affine::decode(parameters, |i| fifth(i) << 4 | nibble(i), x);
}

#[cfg(test)]
#[test]
fn q5_k_is_itself() {
    super::tests::check(&Q5_K, &k_affine::grid(31), 5.5, [28.8, 27.5]);
}
