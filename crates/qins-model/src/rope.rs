//! Rotary position embedding (RoPE): the frequencies of a configuration.

use crate::{ModelConfig, RopeScaling};

/// Which of LongRoPE's two sets of frequencies applies to a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeRegime {
    /// Up to the original context length, and for models without LongRoPE.
    Short,
    /// Beyond it, for all positions.
    Long,
}

/// Frequencies and scaling of a model's RoPE.
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
        match &config.rope_scaling {
            RopeScaling::LongRope(long_rope) => Self {
                short: frequencies(Some(&long_rope.short_factor)),
                long: frequencies(Some(&long_rope.long_factor)),
                scaling: long_rope.attention_factor,
                original: long_rope.original_max_position_embeddings,
            },
            RopeScaling::None => {
                let short = frequencies(None);
                Self { long: short.clone(), short, scaling: 1.0, original: usize::MAX }
            }
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

    /// The frequencies of both regimes.
    pub(crate) fn all_frequencies(&self) -> impl Iterator<Item = f32> {
        self.short.iter().chain(&self.long).copied()
    }

    /// The factor of cos and sin.
    pub fn scaling(&self) -> f32 {
        self.scaling
    }
}
