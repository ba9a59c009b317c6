//! GGUF's IQ4_NL: blocks of 32, sixteen fixed levels, denser near zero, with an `f16` scale d.

use super::{
    Format, inverse, push_f16, read_f16,
    search::{nearest, peak, scale},
};

pub(super) const IQ4_NL: Format = Format { name: "IQ4_NL", block: Some(32), encode, decode };

/// The levels. They are not symmetric, so that the sign of d matters.
const LEVELS: [f32; 16] = [-127., -104., -83., -65., -49., -35., -22., -10., 1., 13., 25., 38., 53., 69., 89., 113.];

fn encode(x: &[f32], bytes: &mut Vec<u8>) {
    let peak = peak(x);
    // The largest weight goes to the lowest level, or up to 7 to either side of it; first, to beyond the highest.
    let candidates = std::iter::once(127.0).chain((-7..=7).map(|step| step as f32 - 127.0)).map(|level| level / peak);
    let d = if peak == 0.0 { 0.0 } else { scale(x, candidates, |x| LEVELS[nearest(&LEVELS, x)]) };
    push_f16(bytes, d);
    let inverse = inverse(d);
    let code = |x: f32| nearest(&LEVELS, x * inverse) as u8;
    let (low, high) = x.split_at(16);
    bytes.extend(low.iter().zip(high).map(|(l, h)| code(*l) | code(*h) << 4));
}

fn decode(bytes: &[u8], x: &mut [f32]) {
    let (d, codes) = bytes.split_at(2);
    let d = read_f16(d);
    let (low, high) = x.split_at_mut(16);
    for ((l, h), byte) in low.iter_mut().zip(high).zip(codes) {
        *l = d * LEVELS[usize::from(byte & 15)];
        *h = d * LEVELS[usize::from(byte >> 4)];
    }
}

#[cfg(test)]
#[test]
fn iq4_nl_is_itself() {
    let block: Vec<f32> = LEVELS.repeat(2).iter().map(|level| level / 1024.0).collect();
    super::tests::check(&IQ4_NL, &block, 4.5, [22.4, 21.1]);
}
