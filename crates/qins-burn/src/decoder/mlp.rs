//! The gated MLP.

use burn::{module::Module, tensor::Tensor};

use qins_model::{Activation, ModelConfig};

use super::{Precision, block::Pass};
use crate::{
    Projection,
    kernel::{activate, gated},
};

/// down(activation(gate(x)) · up(x)).
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

    /// activation(gate(x)) · up(x), the inputs of `down_proj`.
    pub(super) fn gated(&self, x: Tensor<2>, pass: &Pass) -> Tensor<2> {
        let precision = pass.precision;
        let round = |x| precision.round(x);
        let through = |linear: &Projection| round(linear.forward(x.clone()));
        let (gate, up) = pass.both(|| through(&self.gate_proj), || through(&self.up_proj));
        match precision {
            Precision::F32 | Precision::CoarseKeys => gated(gate, up, self.activation),
            Precision::Bf16 => round(round(activate(gate, self.activation)) * up),
        }
    }
}
