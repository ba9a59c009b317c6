//! The gated MLP.

use burn::{
    module::Module,
    tensor::{Tensor, activation::silu},
};

use qins_model::{Activation, ModelConfig};

use super::Precision;
use crate::{Projection, kernel::gated};

/// down(silu(gate(x)) · up(x)).
#[derive(Module, Debug)]
pub struct Mlp {
    /// `[intermediate, hidden]`.
    pub gate_proj: Projection,
    /// `[intermediate, hidden]`.
    pub up_proj: Projection,
    /// `[hidden, intermediate]`.
    pub down_proj: Projection,
    #[module(skip)]
    activation: Activation,
}

impl Mlp {
    pub(crate) fn new(config: &ModelConfig, [gate_proj, up_proj, down_proj]: [Projection; 3]) -> Self {
        Self { gate_proj, up_proj, down_proj, activation: config.activation }
    }

    pub(super) fn forward(&self, x: Tensor<2>, precision: Precision) -> Tensor<2> {
        let round = |x| precision.round(x);
        let gate = round(self.gate_proj.forward(x.clone()));
        let up = round(self.up_proj.forward(x));
        let gated = match (self.activation, precision) {
            (Activation::Silu, Precision::F32) => gated(gate, up),
            (Activation::Silu, Precision::Bf16) => round(round(silu(gate)) * up),
        };
        round(self.down_proj.forward(gated))
    }
}
