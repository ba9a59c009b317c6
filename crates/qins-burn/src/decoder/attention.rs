//! Self-attention with grouped heads and a cache; a sliding window, norms of queries and keys, and a soft cap where the model has them.

use burn::{
    module::Module,
    nn::RmsNorm,
    tensor::{Device, Tensor, TensorData, activation::softmax},
};

use qins_model::{LayerConfig, ModelConfig};

use super::{
    Precision,
    block::{Pass, Sequence},
    rope::Rotation,
};
use crate::{
    Projection,
    cache::{Appended, Attending, Keys, LayerCache},
    kernel::norm,
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
    /// Of queries, before their rotation: of each head, or of all together, as its width says.
    pub q_norm: Option<RmsNorm>,
    /// Of keys.
    pub k_norm: Option<RmsNorm>,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    #[module(skip)]
    layer: LayerConfig,
    /// Of q·k, beyond 1/√head_dim.
    factor: f32,
    softcap: Option<f32>,
}

impl Attention {
    pub(crate) fn new(
        config: &ModelConfig,
        layer: LayerConfig,
        [q_proj, k_proj, v_proj, o_proj]: [Projection; 4],
        [q_norm, k_norm]: [Option<RmsNorm>; 2],
    ) -> Self {
        Self {
            q_proj,
            k_proj,
            v_proj,
            o_proj,
            q_norm,
            k_norm,
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            layer,
            factor: config.factors.attention,
            softcap: config.softcaps.attention,
        }
    }

    /// `x[n, hidden] → [n, heads·head_dim]`, the inputs of `o_proj`; appends the keys and values of each sequence's rows to its cache.
    pub(super) fn attended(&self, x: Tensor<2>, pass: &Pass, caches: Vec<&mut LayerCache>) -> Tensor<2> {
        let precision = pass.precision;
        let queries = || self.normed(self.q_proj.forward(x.clone()), &self.q_norm, precision);
        let keys = || self.normed(self.k_proj.forward(x.clone()), &self.k_norm, precision);
        let values = || precision.round(self.v_proj.forward(x.clone()));
        let (q, (k, v)) = pass.both(queries, || pass.both(keys, values));
        let attend = |sequence: &Sequence, cache: &mut LayerCache, qkv| self.attend(sequence, cache, qkv, precision);
        pass.each([q, k, v], caches, attend)
    }

    /// The queries `[n, heads·head_dim]` of a sequence over its cache, once the keys and values `[n, kv_heads·head_dim]` are
    /// appended to it.
    fn attend(
        &self,
        sequence: &Sequence,
        cache: &mut LayerCache,
        [q, k, v]: [Tensor<2>; 3],
        precision: Precision,
    ) -> Tensor<2> {
        let (n, mask, rotation) = (sequence.n, sequence.mask(self.layer.window), sequence.rotation(self.layer.rope));
        let q = rotated(q, self.heads, rotation, precision);
        let v = v.reshape([n, self.kv_heads, self.head_dim]).swap_dims(0, 1);
        // The query heads of one key head are consecutive: as rows of one matrix they need no copies of the keys.
        let group = self.heads / self.kv_heads;
        let q = precision.scale(q, self.factor).reshape([self.kv_heads, group * n, self.head_dim]);
        let attending = Attending { first: mask.first, window: self.layer.window, softcap: self.softcap };
        let y = match cache.append(Keys { keys: k, rotation, precision }, v, q, attending) {
            Appended::Plain([k, v, q]) => self.over_plain(q, k, v, mask, precision),
            Appended::Attended(y) => precision.round(y),
        };
        y.reshape([self.heads, n, self.head_dim]).swap_dims(0, 1).reshape([n, self.heads * self.head_dim])
    }

    /// Queries or keys `x[n, heads·head_dim]`, normed if the model has norms of them.
    fn normed(&self, x: Tensor<2>, weights: &Option<RmsNorm>, precision: Precision) -> Tensor<2> {
        let [n, width] = x.dims();
        let x = precision.round(x);
        let Some(weights) = weights else { return x };
        let [of] = weights.gamma.dims();
        precision.round(norm(weights, x.reshape([n * width / of, of]))).reshape([n, width])
    }

    /// Queries `[kv_heads, group·n, head_dim]` over keys and values `[kv_heads, positions, head_dim]`.
    fn over_plain(&self, q: Tensor<3>, k: Tensor<3>, v: Tensor<3>, mask: &Mask, precision: Precision) -> Tensor<3> {
        let [_, rows, _] = q.dims();
        let group = self.heads / self.kv_heads;
        let n = rows / group;
        let scale = 1.0 / (self.head_dim as f32).sqrt();
        let scores = precision.round(q.matmul(k.swap_dims(1, 2)).mul_scalar(scale));
        let mut scores = precision.softcap(scores, self.softcap);
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

/// The heads of `x[n, heads·head_dim]`, rotated if the layer has positions: `[heads, n, head_dim]`.
pub(crate) fn rotated(x: Tensor<2>, heads: usize, rotation: Option<&Rotation>, precision: Precision) -> Tensor<3> {
    match rotation {
        Some(rotation) => precision.round(rotation.apply(x, heads)),
        None => {
            let [n, width] = x.dims();
            x.reshape([n, heads, width / heads]).swap_dims(0, 1)
        }
    }
}

/// Which positions the tokens of one forward pass attend to.
pub(super) struct Mask {
    window: Option<usize>,
    /// The first cached position that any of them attends to.
    first: usize,
    /// Added to the scores: 0 or −∞, `[1, 1, n, len − first]`; `None` if all positions are visible, or no mask is needed.
    bias: Option<Tensor<4>>,
}

impl Mask {
    /// For positions `start..start + n`: each attends to itself and the positions before it, at most `window` in total. With a
    /// mask if `device` is given.
    pub(super) fn new(start: usize, n: usize, window: Option<usize>, device: Option<&Device>) -> Self {
        let oldest = |position: usize| (position + 1).saturating_sub(window.unwrap_or(usize::MAX));
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
        Self { window, first, bias }
    }

    pub(super) fn window(&self) -> Option<usize> {
        self.window
    }
}
