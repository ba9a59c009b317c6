//! The whole model: ids in, logits out.

use std::collections::BTreeSet;

use burn::{
    module::Module,
    nn::RmsNorm,
    tensor::{Device, Tensor},
};

use qins_model::{Factors, ModelConfig, Rope, RopeRegime};
use qins_quant::kv::KvScheme;

use super::{
    Block, CausalLm, Input, Precision,
    attention::Mask,
    block::{Midway, Pass, Sequence, Site},
};
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

    /// Reads `x[n, hidden]`, the input of the first block: so many rows for each sequence, one after the other, each after the tokens
    /// in its cache. Gives the output of the last block.
    fn through_blocks(&self, mut x: Tensor<2>, mut sequences: Vec<(usize, RopeRegime, &mut KvCache)>) -> Tensor<2> {
        let pass = self.pass(&mut sequences);
        let mut caches: Vec<_> = sequences.into_iter().map(|(n, _, cache)| cache.layers_mut(n)).collect();
        for layer in &self.layers {
            x = layer.forward(x, &pass, caches.iter_mut().filter_map(Iterator::next).collect());
        }
        x
    }

    fn pass(&self, sequences: &mut [(usize, RopeRegime, &mut KvCache)]) -> Pass {
        let device = self.device();
        let windows: BTreeSet<Option<usize>> = self.config.layers.iter().map(|layer| layer.window).collect();
        let sequence = |(n, regime, cache): &mut (usize, RopeRegime, &mut KvCache)| {
            let (n, start, explicit) = (*n, cache.len(), cache.is_tensors().then_some(&device));
            let mut rotation = |which: usize, rope: &Rope| cache.rotation(which, rope, *regime, n, &device);
            Sequence {
                n,
                rotation: rotation(0, &self.rope),
                local_rotation: self.local_rope.as_ref().map(|rope| rotation(1, rope)),
                masks: windows.iter().map(|window| Mask::new(start, n, *window, explicit)).collect(),
            }
        };
        Pass {
            sequences: sequences.iter_mut().map(sequence).collect(),
            precision: self.precision,
            side_by_side: self.side_by_side(),
        }
    }

    /// Whether computations that do not depend on each other run at the same time: on a CPU, where nothing is recorded for gradients.
    pub(crate) fn side_by_side(&self) -> bool {
        let device = self.device();
        on_cpu(&device) && !device.is_autodiff()
    }

    /// Of the first block, with this input: the first site.
    pub(crate) fn begin(&self, x: Tensor<2>) -> Midway {
        self.layers[0].begin(x, self.precision)
    }

    /// Of the first block: from a site to the next, for whole texts of so many tokens, one after the other.
    pub(crate) fn advance(&self, site: Site, midway: Midway, lens: &[usize]) -> Midway {
        let mut caches: Vec<KvCache> = lens.iter().map(|n| self.cache(*n)).collect();
        let mut sequences: Vec<_> = lens.iter().zip(&mut caches).map(|(n, c)| (*n, self.regime(*n), c)).collect();
        let pass = self.pass(&mut sequences);
        let caches = sequences.into_iter().filter_map(|(n, _, cache)| cache.layers_mut(n).next()).collect();
        self.layers[0].advance(site, midway, &pass, caches)
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

    fn forward(&self, inputs: &mut [Input<'_>]) -> Tensor<2> {
        let (precision, config) = (self.precision, &self.config);
        let ids: Vec<u32> = inputs.iter().flat_map(|input| input.ids).copied().collect();
        let sequences = inputs.iter_mut().map(|input| (input.ids.len(), input.regime, &mut *input.cache)).collect();
        let mut x = self.through_blocks(self.embed(&ids), sequences);
        if inputs.iter().any(|input| input.rows() < input.ids.len()) {
            let mut end = 0;
            let wanted = inputs.iter().map(|input| {
                end += input.ids.len();
                x.clone().narrow(0, end - input.rows(), input.rows())
            });
            x = Tensor::cat(wanted.collect(), 0);
        }
        let y = precision.round(self.lm_head.as_ref().unwrap_or(&self.embed_tokens).forward(self.normed(x)));
        precision.softcap(precision.scale(y, 1.0 / config.factors.logits), config.softcaps.logits)
    }
}
