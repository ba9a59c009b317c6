//! One decoder block.

use burn::{module::Module, nn::RmsNorm, tensor::Tensor};
use qins_model::LayerRope;
use rayon::prelude::*;

use super::{Attention, Mlp, Precision, attention::Mask, rope::Rotation};
use crate::{Projection, cache::LayerCache, kernel::norm};

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

/// Two computations, at the same time if they may run `side_by_side`.
pub(crate) fn both<A: Send, B: Send>(
    side_by_side: bool,
    one: impl FnOnce() -> A + Send,
    other: impl FnOnce() -> B + Send,
) -> (A, B) {
    if side_by_side { rayon::join(one, other) } else { (one(), other()) }
}

impl Pass {
    /// Two computations that do not depend on each other. On a CPU each leaves threads without work at its end.
    pub(super) fn both<A: Send, B: Send>(
        &self,
        one: impl FnOnce() -> A + Send,
        other: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        both(self.side_by_side, one, other)
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

fn normed(weights: &Option<RmsNorm>, x: Tensor<2>, precision: Precision) -> Tensor<2> {
    match weights {
        Some(weights) => precision.round(norm(weights, x)),
        None => x,
    }
}

/// Where linears of a block have their inputs, in the order of computation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    /// Of queries, keys and values.
    Attention,
    /// Of the attention's output.
    Output,
    /// Of gate and up.
    Mlp,
    /// Of down.
    Down,
}

impl Site {
    pub(crate) const ALL: [Self; 4] = [Self::Attention, Self::Output, Self::Mlp, Self::Down];
}

/// A computation that has come to a site.
#[derive(Clone, Debug)]
pub(crate) struct Midway {
    /// What results are added to, `[n, hidden]`.
    pub(crate) x: Tensor<2>,
    /// The inputs of the site's linears, `[n, in]`.
    pub(crate) inputs: Tensor<2>,
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
    pub(super) fn forward(&self, x: Tensor<2>, pass: &Pass, mut caches: Vec<&mut LayerCache>) -> Tensor<2> {
        let mut midway = self.begin(x, pass.precision);
        for site in Site::ALL {
            midway = self.advance(site, midway, pass, std::mem::take(&mut caches));
        }
        midway.x
    }

    /// To the first site.
    pub(super) fn begin(&self, x: Tensor<2>, precision: Precision) -> Midway {
        Midway { inputs: normed(&self.attention_norms.before, x.clone(), precision), x }
    }

    /// From a site to the next, or to the block's output, which is `x` then. Attention appends to the caches.
    pub(super) fn advance(
        &self,
        site: Site,
        Midway { x, inputs }: Midway,
        pass: &Pass,
        caches: Vec<&mut LayerCache>,
    ) -> Midway {
        let precision = pass.precision;
        let plus = |x: Tensor<2>, norms: &Norms, linear: &Projection| {
            let y = normed(&norms.after, precision.round(linear.forward(inputs.clone())), precision);
            precision.round(x + precision.scale(y, self.factor))
        };
        match site {
            Site::Attention => Midway { x, inputs: self.self_attn.attended(inputs, pass, caches) },
            Site::Output => {
                let x = plus(x, &self.attention_norms, &self.self_attn.o_proj);
                Midway { inputs: normed(&self.mlp_norms.before, x.clone(), precision), x }
            }
            Site::Mlp => Midway { x, inputs: self.mlp.gated(inputs, pass) },
            Site::Down => Midway { x: plus(x, &self.mlp_norms, &self.mlp.down_proj), inputs },
        }
    }
}
