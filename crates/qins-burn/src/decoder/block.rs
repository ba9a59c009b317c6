//! One decoder block.

use burn::{module::Module, nn::RmsNorm, tensor::Tensor};

use super::{Attention, Mlp, Precision, attention::Mask, rope::Rotation};
use crate::{cache::LayerCache, kernel::norm};

/// What all blocks share in one forward pass.
pub(super) struct Pass {
    pub(super) rotation: Rotation,
    pub(super) mask: Mask,
    pub(super) precision: Precision,
}

/// x + attention(norm(x)), then + mlp(norm(·)).
#[derive(Module, Debug)]
pub struct Block {
    /// Before the attention.
    pub input_layernorm: RmsNorm,
    /// The attention.
    pub self_attn: Attention,
    /// Before the MLP.
    pub post_attention_layernorm: RmsNorm,
    /// The MLP.
    pub mlp: Mlp,
}

impl Block {
    pub(super) fn forward(&self, x: Tensor<2>, pass: &Pass, cache: &mut LayerCache) -> Tensor<2> {
        let round = |x| pass.precision.round(x);
        let attention = self.self_attn.forward(round(norm(&self.input_layernorm, x.clone())), pass, cache);
        let x = round(x + attention);
        let mlp = self.mlp.forward(round(norm(&self.post_attention_layernorm, x.clone())), pass.precision);
        round(x + mlp)
    }
}
