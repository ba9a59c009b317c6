//! GGUF's Q6_K: blocks of 256 in 16 groups, `x ≈ d·scale·l` with l = −32 … 31, an `i8` scale per group and an `f16` d.

use super::{
    Format, push_f16, read_f16,
    search::{peak, scale},
};

pub(super) const Q6_K: Format = Format { name: "Q6_K", block: Some(256), encode, decode };

const GROUP: usize = 16;

fn encode(x: &[f32], bytes: &mut Vec<u8>) {
    let scales: Vec<f32> = x.chunks_exact(GROUP).map(group_scale).collect();
    // The largest scale becomes −128, the end of an i8 that reaches further.
    let inverse = -128.0 / peak(&scales);
    let (codes, d) = if inverse.is_finite() {
        let codes = scales.iter().map(|scale| (inverse * scale).round_ties_even().min(127.0) as i8).collect();
        (codes, 1.0 / inverse)
    } else {
        (vec![0; scales.len()], 0.0)
    };
    let mut tail: Vec<u8> = codes.iter().map(|code| *code as u8).collect();
    let d = push_f16(&mut tail, d);
    let level = |i: usize| {
        let step = d * f32::from(codes[i / GROUP]);
        if step == 0.0 { 32 } else { ((x[i] / step).round_ties_even().clamp(-32.0, 31.0) + 32.0) as u8 }
    };
    for half in [0, 128] {
        for i in half..half + 64 {
            bytes.push(level(i) & 15 | level(i + 64) << 4);
        }
    }
    for half in [0, 128] {
        for i in half..half + 32 {
            bytes.push((0..4).fold(0, |upper, quarter| upper | level(i + 32 * quarter) >> 4 << (2 * quarter)));
        }
    }
    bytes.extend(tail);
}

/// Its largest weight goes to −32, give or take 0.9.
fn group_scale(x: &[f32]) -> f32 {
    let peak = peak(x);
    if peak == 0.0 {
        return 0.0;
    }
    let candidates = [0].into_iter().chain(-9..=9).map(|step| -(32.0 + 0.1 * step as f32) / peak);
    scale(x, candidates, |x| x.round_ties_even().clamp(-32.0, 31.0))
}

fn decode(bytes: &[u8], x: &mut [f32]) {
    let (low, rest) = bytes.split_at(128);
    let (upper, rest) = rest.split_at(64);
    let (codes, d) = rest.split_at(16);
    let d = read_f16(d);
    for (i, x) in x.iter_mut().enumerate() {
        let (half, at) = (i / 128, i % 128);
        let low = low[half * 64 + at % 64] >> (at / 64 * 4) & 15;
        let upper = upper[half * 32 + at % 32] >> (at / 32 * 2) & 3;
        *x = d * f32::from(codes[i / GROUP] as i8) * (f32::from(upper << 4 | low) - 32.0);
    }
}

#[cfg(test)]
#[test]
fn q6_k_is_itself() {
    // Each group has level −32, so that its scale is found exactly; the scales are whole multiples of the largest/128.
    let level = |i: usize| [-32, 31, 0, 1, -1, 17, -25, 9, 30, -31, 2, -2, 12, -12, 23, -17][i % GROUP];
    let block: Vec<f32> = (0..256).map(|i| (level(i) * (128 - 5 * (i / GROUP) as i32)) as f32 / 65536.0).collect();
    super::tests::check(&Q6_K, &block, 6.5625, [35.0, 33.4]);
}
