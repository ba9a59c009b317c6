//! The gated MLP.

use burn::{
    module::Module,
    tensor::{Tensor, activation::silu},
};

use crate::Projection;

/// down(silu(gate(x)) · up(x)).
#[derive(Module, Debug)]
pub struct Mlp {
    /// `[intermediate, hidden]`.
    pub gate_proj: Projection,
    /// `[intermediate, hidden]`.
    pub up_proj: Projection,
    /// `[hidden, intermediate]`.
    pub down_proj: Projection,
}

impl Mlp {
    pub(super) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let gate = silu(self.gate_proj.forward(x.clone()));
        self.down_proj.forward(gate * self.up_proj.forward(x))
    }
}
