//! One decoder block.

use burn::{module::Module, nn::RmsNorm, tensor::Tensor};

use super::{Attention, Mlp, attention::Mask, rope::Rotation};
use crate::cache::LayerCache;

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
    pub(super) fn forward(&self, x: Tensor<2>, rotation: &Rotation, mask: &Mask, cache: &mut LayerCache) -> Tensor<2> {
        let attention = self.self_attn.forward(self.input_layernorm.forward(x.clone()), rotation, mask, cache);
        let x = x + attention;
        let mlp = self.mlp.forward(self.post_attention_layernorm.forward(x.clone()));
        x + mlp
    }
}
