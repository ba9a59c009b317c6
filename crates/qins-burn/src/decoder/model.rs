//! The whole model: ids in, logits out.

use std::collections::BTreeSet;

use burn::{
    module::Module,
    nn::RmsNorm,
    tensor::{Device, Tensor},
};

use qins_model::{Factors, ModelConfig, Rope, RopeRegime};
use qins_quant::kv::KvScheme;

use super::{Block, CausalLm, Logits, Precision, attention::Mask, block::Pass};
use crate::{
    KvCache, Projection,
    kernel::{norm, on_cpu},
};

/// A decoder-only language model.
#[derive(Module, Debug)]
pub struct Decoder {
    /// `[vocabulary, hidden]`; also the head when that is tied.
    pub embed_tokens: Projection,
    /// The blocks.
    pub layers: Vec<Block>,
    /// After the last block.
    pub norm: RmsNorm,
    /// `[vocabulary, hidden]`; `None` when tied to the embedding.
    pub lm_head: Option<Projection>,
    #[module(skip)]
    config: ModelConfig,
    #[module(skip)]
    rope: Rope,
    #[module(skip)]
    local_rope: Option<Rope>,
    #[module(skip)]
    precision: Precision,
    #[module(skip)]
    kv: KvScheme,
}

impl Decoder {
    pub(crate) fn new(
        config: ModelConfig,
        embed_tokens: Projection,
        layers: Vec<Block>,
        norm: RmsNorm,
        lm_head: Option<Projection>,
    ) -> Self {
        Self {
            embed_tokens,
            layers,
            norm,
            lm_head,
            rope: Rope::new(&config.rope),
            local_rope: config.local_rope.as_ref().map(Rope::new),
            config,
            precision: Precision::F32,
            kv: KvScheme::F32,
        }
    }

    /// Its shapes and limits.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Its rotary position embedding.
    pub fn rope(&self) -> &Rope {
        &self.rope
    }

    /// Sets the precision to which results of operations are rounded.
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    /// The input of the first block, `[ids.len(), hidden]`.
    pub(crate) fn embed(&self, ids: &[u32]) -> Tensor<2> {
        let precision = self.precision;
        let Factors { embedding, embedding_is_tensor, .. } = self.config.factors;
        let factor = if embedding_is_tensor { precision.factor(embedding) } else { embedding };
        precision.scale(precision.round(self.embed_tokens.rows(ids)), factor)
    }

    /// Reads `x[n, hidden]`, the input of the first block, after the tokens in `cache`; gives the output of the last block.
    pub(crate) fn through_blocks(&self, mut x: Tensor<2>, regime: RopeRegime, cache: &mut KvCache) -> Tensor<2> {
        let device = self.device();
        let (start, [n, _]) = (cache.len(), x.dims());
        let (precision, config) = (self.precision, &self.config);
        let windows: BTreeSet<Option<usize>> = config.layers.iter().map(|layer| layer.window).collect();
        let explicit = cache.is_tensors().then_some(&device);
        let mut rotation = |which: usize, rope: &Rope| cache.rotation(which, rope, regime, n, &device);
        let pass = Pass {
            rotation: rotation(0, &self.rope),
            local_rotation: self.local_rope.as_ref().map(|rope| rotation(1, rope)),
            masks: windows.into_iter().map(|window| Mask::new(start, n, window, explicit)).collect(),
            precision,
            side_by_side: on_cpu(&device) && !device.is_autodiff(),
        };
        for (layer, cache) in self.layers.iter().zip(cache.layers_mut(n)) {
            x = layer.forward(x, &pass, cache);
        }
        x
    }

    /// The input of the head.
    pub(crate) fn normed(&self, x: Tensor<2>) -> Tensor<2> {
        self.precision.round(norm(&self.norm, x))
    }

    /// Sets the KV cache scheme of new sequences.
    pub fn set_kv(&mut self, scheme: KvScheme) {
        self.kv = scheme;
    }
}

impl CausalLm for Decoder {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn device(&self) -> Device {
        self.norm.gamma.val().device()
    }

    fn regime(&self, len: usize) -> RopeRegime {
        self.rope.regime(len)
    }

    fn cache(&self, capacity: usize) -> KvCache {
        KvCache::with(&self.config, capacity, self.kv, self.precision != Precision::F32, &self.device())
    }

    fn forward(&self, ids: &[u32], regime: RopeRegime, cache: &mut KvCache, logits: Logits) -> Tensor<2> {
        let (precision, config, n) = (self.precision, &self.config, ids.len());
        let mut x = self.through_blocks(self.embed(ids), regime, cache);
        let rows = logits.rows(n);
        if rows < n {
            x = x.narrow(0, n - rows, rows);
        }
        let y = precision.round(self.lm_head.as_ref().unwrap_or(&self.embed_tokens).forward(self.normed(x)));
        precision.softcap(precision.scale(y, 1.0 / config.factors.logits), config.softcaps.logits)
    }
}
