//! Self-attention with grouped heads, a cache and an optional sliding window.

use burn::{
    module::Module,
    tensor::{Device, Tensor, TensorData, activation::softmax},
};

use qins_model::ModelConfig;

use super::block::Pass;
use crate::{
    Projection,
    cache::{Appended, LayerCache},
};

/// Attention of one block. The fused `qkv_proj` of a checkpoint is split by rows when it is loaded, so that q, k and v
/// can have different schemes.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[heads·head_dim, hidden]`.
    pub q_proj: Projection,
    /// `[kv_heads·head_dim, hidden]`.
    pub k_proj: Projection,
    /// `[kv_heads·head_dim, hidden]`.
    pub v_proj: Projection,
    /// `[hidden, heads·head_dim]`.
    pub o_proj: Projection,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    sliding_window: Option<usize>,
}

impl Attention {
    pub(crate) fn new(config: &ModelConfig, [q_proj, k_proj, v_proj, o_proj]: [Projection; 4]) -> Self {
        Self {
            q_proj,
            k_proj,
            v_proj,
            o_proj,
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            sliding_window: config.sliding_window,
        }
    }

    /// `x[n, hidden] → [n, hidden]`; appends the keys and values of x to the cache.
    pub(super) fn forward(&self, x: Tensor<2>, pass: &Pass, cache: &mut LayerCache) -> Tensor<2> {
        let Pass { rotation, mask, precision } = pass;
        let [n, _] = x.dims();
        let rotated = |y: Tensor<2>, heads: usize| precision.round(rotation.apply(precision.round(y), heads));
        let q = rotated(self.q_proj.forward(x.clone()), self.heads);
        let k = rotated(self.k_proj.forward(x.clone()), self.kv_heads);
        let v = precision.round(self.v_proj.forward(x)).reshape([n, self.kv_heads, self.head_dim]).swap_dims(0, 1);
        // The query heads of one key head are consecutive: as rows of one matrix they need no copies of the keys.
        let group = self.heads / self.kv_heads;
        let q = q.reshape([self.kv_heads, group * n, self.head_dim]);
        let y = match cache.append(k, v, q, mask.first, self.sliding_window) {
            Appended::Plain([k, v, q]) => self.over_plain(q, k, v, pass),
            Appended::Attended(y) => precision.round(y),
        };
        let y = y.reshape([self.heads, n, self.head_dim]).swap_dims(0, 1).reshape([n, self.heads * self.head_dim]);
        precision.round(self.o_proj.forward(y))
    }

    /// Queries `[kv_heads, group·n, head_dim]` over keys and values `[kv_heads, positions, head_dim]`.
    fn over_plain(&self, q: Tensor<3>, k: Tensor<3>, v: Tensor<3>, Pass { mask, precision, .. }: &Pass) -> Tensor<3> {
        let [_, rows, _] = q.dims();
        let group = self.heads / self.kv_heads;
        let n = rows / group;
        let scale = 1.0 / (self.head_dim as f32).sqrt();
        let mut scores = precision.round(q.matmul(k.swap_dims(1, 2)).mul_scalar(scale));
        if let Some(bias) = &mask.bias {
            let [_, _, len] = scores.dims();
            scores = (scores.reshape([self.kv_heads, group, n, len]) + bias.clone()).reshape([
                self.kv_heads,
                group * n,
                len,
            ]);
        }
        precision.round(precision.round(softmax(scores, 2)).matmul(v))
    }
}

/// Which positions the tokens of one forward pass attend to.
pub(super) struct Mask {
    /// The first cached position that any of them attends to.
    first: usize,
    /// Added to the scores: 0 or −∞, `[1, 1, n, len − first]`; `None` if all positions are visible, or no mask is needed.
    bias: Option<Tensor<4>>,
}

impl Mask {
    /// For positions `start..start + n`: each attends to itself and the positions before it, at most `window` in total. With a
    /// mask if `device` is given.
    pub(super) fn new(start: usize, n: usize, window: Option<usize>, device: Option<&Device>) -> Self {
        let window = window.unwrap_or(usize::MAX);
        let oldest = |position: usize| (position + 1).saturating_sub(window);
        let first = oldest(start);
        let len = start + n - first;
        let bias = device.filter(|_| n > 1).map(|device| {
            let visible = |row: usize, column: usize| {
                let (position, seen) = (start + row, first + column);
                seen <= position && seen >= oldest(position)
            };
            let values: Vec<f32> =
                (0..n * len).map(|i| if visible(i / len, i % len) { 0.0 } else { f32::NEG_INFINITY }).collect();
            Tensor::from_data(TensorData::new(values, [1, 1, n, len]), device)
        });
        Self { first, bias }
    }
}
