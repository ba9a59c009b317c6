//! What GGUF's Q4_K and Q5_K share: blocks of 256 in 8 groups of 32, `x ≈ d·scale·l − m·offset`, with 6-bit scales and
//! offsets per group and `f16` d and m per block.

use super::{push_f16, read_f16, search::scale_and_offset};

/// Bytes of a block's parameters: d, m, and 16 numbers of 6 bits.
pub(super) const BYTES: usize = 16;

/// Fits a block whose levels end at `top`, with the `candidates` of the search; appends its parameters and gives
/// its levels.
pub(super) fn encode(
    x: &[f32],
    top: f32,
    candidates: impl Iterator<Item = f32> + Clone,
    bytes: &mut Vec<u8>,
) -> Vec<u8> {
    let groups: Vec<(f32, f32)> =
        x.chunks_exact(32).map(|group| scale_and_offset(group, top, candidates.clone())).collect();
    let largest = |of: fn(&(f32, f32)) -> f32| groups.iter().map(of).fold(0.0, f32::max);
    let (scale, offset) = (largest(|g| g.0), largest(|g| g.1));
    let six_bits = |x: f32, largest: f32| {
        let inverse = if largest > 0.0 { 63.0 / largest } else { 0.0 };
        (inverse * x).round_ties_even().min(63.0) as u8
    };
    let codes: Vec<[u8; 2]> = groups.iter().map(|g| [six_bits(g.0, scale), six_bits(g.1, offset)]).collect();
    let start = bytes.len();
    push_f16(bytes, scale / 63.0);
    push_f16(bytes, offset / 63.0);
    bytes.extend(pack(&codes));
    // The levels are chosen again for the rounded scales and offsets.
    let steps = read(&bytes[start..]);
    let level = |x: f32, [scale, offset]: [f32; 2]| {
        if scale == 0.0 { 0 } else { ((x + offset) / scale).round_ties_even().clamp(0.0, top) as u8 }
    };
    x.iter().enumerate().map(|(i, &x)| level(x, steps[i / 32])).collect()
}

/// Weights from a block's parameters and the level of each.
pub(super) fn decode(bytes: &[u8], level: impl Fn(usize) -> u8, x: &mut [f32]) {
    let steps = read(bytes);
    for (i, x) in x.iter_mut().enumerate() {
        let [scale, offset] = steps[i / 32];
        *x = scale * f32::from(level(i)) - offset;
    }
}

/// The scale and offset of each group.
fn read(bytes: &[u8]) -> [[f32; 2]; 8] {
    let [d, m] = [read_f16(bytes), read_f16(&bytes[2..])];
    let codes = &bytes[4..BYTES];
    std::array::from_fn(|group| {
        let [scale, offset] = unpack(codes, group);
        [d * f32::from(scale), m * f32::from(offset)]
    })
}

/// Groups 0–3 have a byte for the scale and one for the offset, whose upper two bits are those of group 4–7; the lower
/// four of these share a byte.
fn pack(codes: &[[u8; 2]]) -> [u8; 12] {
    std::array::from_fn(|i| match i {
        0..8 => codes[i % 4][i / 4] | codes[i % 4 + 4][i / 4] >> 4 << 6,
        _ => codes[i - 4][0] & 15 | codes[i - 4][1] << 4,
    })
}

fn unpack(bytes: &[u8], group: usize) -> [u8; 2] {
    match group {
        0..4 => [bytes[group] & 63, bytes[group + 4] & 63],
        _ => {
            let (low, upper) = (bytes[group + 4], [bytes[group - 4], bytes[group]]);
            [low & 15 | upper[0] >> 6 << 4, low >> 4 | upper[1] >> 6 << 4]
        }
    }
}

/// A block with every level in every group, and groups that differ in scale and offset.
#[cfg(test)]
pub(super) fn grid(top: usize) -> Vec<f32> {
    let [d, m] = [1.0 / 16384.0, 1.0 / 4096.0];
    let weight = |group: usize, level: usize| d * ((63 - 4 * group) * level) as f32 - m * (63 - 8 * group) as f32;
    (0..256).map(|i| weight(i / 32, i % (top + 1))).collect()
}
