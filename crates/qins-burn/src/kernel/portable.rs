//! Decoding by plain Burn operations: the same formula in the same order as the codec, on any backend.

use burn::tensor::{Int, Tensor};
use qins_quant::{Alpha, FloatDtype};

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
    let [rows, width] = words.dims();
    let bytes = (0..4).map(|i| words.clone().bitwise_right_shift_scalar(8 * i).bitwise_and_scalar(0xff)).collect();
    let codes: Tensor<2, Int> = Tensor::stack::<3>(bytes, 2).reshape([rows, width * 4]).slice([0..rows, 0..cols]);
    let q = codes.clone().bitwise_and_scalar(0x7f).float();
    let sign = codes.bitwise_right_shift_scalar(7).float().mul_scalar(-2.0).add_scalar(1.0);
    let steps = q.clone().neg().add_scalar(127.0);
    let t = q.div(steps.mul(k.reshape([rows, 1])).add_scalar(127.0));
    t.mul(sign).mul(scale.reshape([rows, 1]))
}
