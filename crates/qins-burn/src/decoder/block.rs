//! One decoder block.

use burn::{module::Module, nn::RmsNorm, tensor::Tensor};
use qins_model::LayerRope;
use rayon::prelude::*;

use super::{Attention, Mlp, Precision, attention::Mask, rope::Rotation};
use crate::{cache::LayerCache, kernel::norm};

/// What all blocks share in one forward pass.
pub(super) struct Pass {
    /// One or more, whose rows follow one after the other.
    pub(super) sequences: Vec<Sequence>,
    pub(super) precision: Precision,
    /// Whether computations that do not depend on each other are given to threads side by side.
    pub(super) side_by_side: bool,
}

/// The tokens of one sequence in a pass.
pub(super) struct Sequence {
    /// Their number.
    pub(super) n: usize,
    pub(super) rotation: Rotation,
    /// Of blocks with [`LayerRope::Local`].
    pub(super) local_rotation: Option<Rotation>,
    /// One for each window.
    pub(super) masks: Vec<Mask>,
}

impl Pass {
    /// Two computations that do not depend on each other. On a CPU each leaves threads without work at its end.
    pub(super) fn both<A: Send, B: Send>(
        &self,
        one: impl FnOnce() -> A + Send,
        other: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        if self.side_by_side { rayon::join(one, other) } else { (one(), other()) }
    }

    /// `f` of each sequence, its cache and its rows of each tensor; the results one after the other.
    pub(super) fn each<const N: usize>(
        &self,
        tensors: [Tensor<2>; N],
        mut caches: Vec<&mut LayerCache>,
        f: impl Fn(&Sequence, &mut LayerCache, [Tensor<2>; N]) -> Tensor<2> + Sync,
    ) -> Tensor<2> {
        if let ([sequence], [cache]) = (&self.sequences[..], &mut caches[..]) {
            return f(sequence, cache, tensors);
        }
        let (mut start, mut parts) = (0, Vec::new());
        for (sequence, cache) in self.sequences.iter().zip(caches) {
            let rows = tensors.each_ref().map(|x| x.clone().narrow(0, start, sequence.n));
            parts.push((sequence, cache, rows));
            start += sequence.n;
        }
        let f = |(sequence, cache, rows)| f(sequence, cache, rows);
        let results = match self.side_by_side {
            true => parts.into_par_iter().map(f).collect(),
            false => parts.into_iter().map(f).collect(),
        };
        Tensor::cat(results, 0)
    }
}

impl Sequence {
    pub(super) fn rotation(&self, rope: LayerRope) -> Option<&Rotation> {
        match rope {
            LayerRope::Global => Some(&self.rotation),
            LayerRope::Local => self.local_rotation.as_ref(),
            LayerRope::None => None,
        }
    }

    pub(super) fn mask(&self, window: Option<usize>) -> &Mask {
        self.masks.iter().find(|mask| mask.window() == window).expect("a mask for every window of the model's blocks")
    }
}

/// The norms around an attention or MLP.
#[derive(Module, Debug)]
pub struct Norms {
    /// Of its input.
    pub before: Option<RmsNorm>,
    /// Of its output.
    pub after: Option<RmsNorm>,
}

impl Norms {
    /// after(f(before(x))).
    fn around(&self, x: Tensor<2>, precision: Precision, f: impl FnOnce(Tensor<2>) -> Tensor<2>) -> Tensor<2> {
        let normed = |norms: &Option<RmsNorm>, x| match norms {
            Some(weights) => precision.round(norm(weights, x)),
            None => x,
        };
        normed(&self.after, f(normed(&self.before, x)))
    }
}

/// x + attention(x), then + mlp(·), each with its norms and times a factor.
#[derive(Module, Debug)]
pub struct Block {
    /// Around the attention.
    pub attention_norms: Norms,
    /// The attention.
    pub self_attn: Attention,
    /// Around the MLP.
    pub mlp_norms: Norms,
    /// The MLP.
    pub mlp: Mlp,
    /// Of what is added.
    pub(crate) factor: f32,
}

impl Block {
    pub(super) fn forward(&self, x: Tensor<2>, pass: &Pass, caches: Vec<&mut LayerCache>) -> Tensor<2> {
        let precision = pass.precision;
        let plus = |x: Tensor<2>, y| precision.round(x + precision.scale(y, self.factor));
        let attention = self.attention_norms.around(x.clone(), precision, |x| self.self_attn.forward(x, pass, caches));
        let x = plus(x, attention);
        let mlp = self.mlp_norms.around(x.clone(), precision, |x| self.mlp.forward(x, pass));
        plus(x, mlp)
    }
}
