//! GGUF's Q4_K: sixteen levels with scale and offset, two levels a byte.

use super::{Format, k_affine};

pub(super) const Q4_K: Format = Format { name: "Q4_K", block: Some(256), encode, decode };

fn encode(x: &[f32], bytes: &mut Vec<u8>) {
    let levels = k_affine::encode(x, 15.0, (0..=20).map(|i| 15.0 - 1.0 + 0.1 * i as f32), bytes);
    for pair in levels.chunks_exact(64) {
        let (low, high) = pair.split_at(32);
        bytes.extend(low.iter().zip(high).map(|(l, h)| l | h << 4));
    }
}

fn decode(bytes: &[u8], x: &mut [f32]) {
    let (parameters, levels) = bytes.split_at(k_affine::BYTES);
    k_affine::decode(parameters, |i| levels[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15, x);
}

#[cfg(test)]
#[test]
fn q4_k_is_itself() {
    super::tests::check(&Q4_K, &k_affine::grid(15), 4.5, [22.9, 21.6]);
}
