//! Rotary position embedding: halves rotated against each other, tables in `f32`.

use burn::tensor::{Device, Tensor, TensorData};

use super::ModelConfig;
use crate::kernel;

/// Which of LongRoPE's two sets of frequencies a sequence is read with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeRegime {
    /// Up to the original length, and for models without LongRoPE.
    Short,
    /// Beyond it: for every position, the first ones included.
    Long,
}

/// Frequencies and scaling of a model's rotations.
#[derive(Clone, Debug)]
pub struct Rope {
    short: Vec<f32>,
    long: Vec<f32>,
    scaling: f32,
    original: usize,
}

impl Rope {
    /// The frequencies 1/(factor·θ^(2i/d)), as Transformers computes them: in `f32` throughout.
    pub fn new(config: &ModelConfig) -> Self {
        let frequencies = |factors: Option<&[f32]>| -> Vec<f32> {
            (0..config.rotary_dim / 2)
                .map(|i| {
                    let exponent = (2 * i) as f32 / config.rotary_dim as f32;
                    let factor = factors.map_or(1.0, |f| f[i]);
                    1.0 / (factor * (config.rope_theta as f32).powf(exponent))
                })
                .collect()
        };
        match &config.long_rope {
            None => {
                let short = frequencies(None);
                Self { long: short.clone(), short, scaling: 1.0, original: usize::MAX }
            }
            Some(long_rope) => Self {
                short: frequencies(Some(&long_rope.short_factor)),
                long: frequencies(Some(&long_rope.long_factor)),
                scaling: long_rope.attention_factor,
                original: long_rope.original_max_position_embeddings,
            },
        }
    }

    /// The regime of a sequence of `len` tokens.
    pub fn regime(&self, len: usize) -> RopeRegime {
        if len > self.original { RopeRegime::Long } else { RopeRegime::Short }
    }

    /// The frequencies of a regime, one per rotated pair.
    pub fn frequencies(&self, regime: RopeRegime) -> &[f32] {
        match regime {
            RopeRegime::Short => &self.short,
            RopeRegime::Long => &self.long,
        }
    }

    /// What cos and sin are multiplied with.
    pub fn scaling(&self) -> f32 {
        self.scaling
    }

    /// cos and sin of positions `start..start + n`: each `[1, n, pairs]`.
    pub(super) fn tables(&self, regime: RopeRegime, start: usize, n: usize, device: &Device) -> Rotation {
        let frequencies = self.frequencies(regime);
        let angles = || (start..start + n).flat_map(|p| frequencies.iter().map(move |f| p as f32 * f));
        let table = |values: Vec<f32>| Tensor::from_data(TensorData::new(values, [1, n, frequencies.len()]), device);
        Rotation {
            cos: table(angles().map(|a| a.cos() * self.scaling).collect()),
            sin: table(angles().map(|a| a.sin() * self.scaling).collect()),
        }
    }
}

/// The rotations of some consecutive positions.
#[derive(Clone, Debug)]
pub(super) struct Rotation {
    cos: Tensor<3>,
    sin: Tensor<3>,
}

impl Rotation {
    /// The heads of `x[n, heads·head_dim]`, rotated: `[heads, n, head_dim]`.
    pub(super) fn apply(&self, x: Tensor<2>, heads: usize) -> Tensor<3> {
        kernel::rotate(x, self.cos.clone(), self.sin.clone(), heads)
    }
}
