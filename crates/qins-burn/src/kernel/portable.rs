//! Decoding by plain Burn operations: the same formula in the same order as the codec, on any backend.

use burn::tensor::{Int, Tensor};
use qins_quant::{Alpha, FloatDtype, Layout};

use super::Groups;

/// x = sign(u)·|u| / (α·(1−|u|)), rounded to the type the weights came from.
pub(super) fn decode_u(u: Tensor<2>, alpha: Alpha, source: FloatDtype) -> Tensor<2> {
    let complement = u.clone().abs().neg().add_scalar(1.0);
    let x = u.div(complement.mul_scalar(alpha.get()));
    match source {
        FloatDtype::F32 => x,
        FloatDtype::F16 => round(x, 11),
        FloatDtype::Bf16 => round(x, 8),
    }
}

/// x rounded to `bits` significant bits by Veltkamp's splitting, as not every backend has the smaller types: with
/// c = (2²⁴⁻ᵇⁱᵗˢ + 1)·x, c − (c − x) is the upper part of x. A decoded weight lies so near the one it was that ties, which
/// this may break otherwise than IEEE does, do not arise.
fn round(x: Tensor<2>, bits: u32) -> Tensor<2> {
    let c = x.clone().mul_scalar(((1_u32 << (24 - bits)) + 1) as f32);
    c.clone().sub(c.sub(x))
}

/// x = ±s·(q / (127 + k·(127−q))).
pub(super) fn decode_q8(words: Tensor<2, Int>, scale: Tensor<1>, k: Tensor<1>, cols: usize) -> Tensor<2> {
    let codes = bytes(words).narrow(1, 0, cols);
    let [rows, _] = codes.dims();
    let q = codes.clone().bitwise_and_scalar(0x7f).float();
    let sign = codes.bitwise_right_shift_scalar(7).float().mul_scalar(-2.0).add_scalar(1.0);
    let steps = q.clone().neg().add_scalar(127.0);
    let t = q.div(steps.mul(k.reshape([rows, 1])).add_scalar(127.0));
    t.mul(sign).mul(scale.reshape([rows, 1]))
}

/// x = (d·s)·(q / (n + k·(n−|q|))), q and n in steps of the code; the level rounded to 1/127 where b ≤ 5.
pub(super) fn decode_grouped(w: Groups) -> Tensor<2> {
    let (bits, cols) = (w.layout.bits(), w.cols);
    let [rows, supers] = w.scale.dims();
    let groups = cols.div_ceil(Layout::GROUP);
    let steps = (1_u32 << (bits - 1)) as f32;

    let d = w.scale.reshape([rows, supers, 1]).repeat_dim(2, Layout::SUPER).reshape([rows, supers * Layout::SUPER]);
    let s = bytes(w.group_scale).float();
    // Two's complement: a byte from 128 on stands for 256 less.
    let s = s.clone().sub(s.greater_equal_elem(128.0).float().mul_scalar(256.0));
    let scale = d.narrow(1, 0, groups).mul(s.narrow(1, 0, groups)).reshape([rows * groups, 1]);

    let selectors = bytes(w.selector);
    let [_, n] = selectors.dims();
    let selectors = Tensor::stack::<3>((0..4).map(|i| field(selectors.clone(), 2 * i, 2)).collect(), 2);
    let j = selectors.reshape([rows, 4 * n]).narrow(1, 0, groups).reshape([rows * groups]);
    let k = w.curvature.select(0, j).reshape([rows * groups, 1]);

    let q = codes(w.packed.reshape([rows * groups, bits]), bits).sub_scalar(steps);
    let t = q.clone().div(q.abs().neg().add_scalar(steps).mul(k).add_scalar(steps));
    let t = if Layout::has_byte_levels(bits) { t.mul_scalar(127.0).round().mul_scalar(1.0_f32 / 127.0) } else { t };
    t.mul(scale).reshape([rows, groups * Layout::GROUP]).narrow(1, 0, cols)
}

/// The 32 codes of each group, `[groups, bits] → [groups, 32]`, out of their planes of 8, 4, 2 and 1 bits, lowest first.
fn codes(packed: Tensor<2, Int>, bits: usize) -> Tensor<2> {
    let (mut codes, mut low) = (None, 0);
    for width in [8, 4, 2, 1].into_iter().filter(|width| bits & width != 0) {
        // A plane has as many words as its fields have bits, and so has all that lies before it.
        let plane = bytes(packed.clone().narrow(1, low, width));
        let stripes = (0..8 / width).map(|i| field(plane.clone(), i * width, width)).collect();
        let fields = Tensor::cat(stripes, 1).float().mul_scalar((1_u32 << low) as f32);
        codes = Some(match codes {
            None => fields,
            Some(codes) => fields.add(codes),
        });
        low += width;
    }
    codes.expect("a code has bits")
}

/// `width` bits of each byte, from bit `low` on.
fn field(bytes: Tensor<2, Int>, low: usize, width: usize) -> Tensor<2, Int> {
    bytes.bitwise_right_shift_scalar(low as u32).bitwise_and_scalar((1_u32 << width) - 1)
}

/// The bytes of little-endian words: `[n, words] → [n, 4·words]`.
fn bytes(words: Tensor<2, Int>) -> Tensor<2, Int> {
    let [n, m] = words.dims();
    Tensor::stack::<3>((0..4).map(|i| field(words.clone(), 8 * i, 8)).collect(), 2).reshape([n, m * 4])
}
