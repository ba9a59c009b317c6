//! Rotary position embedding (RoPE): the frequencies of a configuration.

use std::f64::consts::TAU;

use crate::{Llama3, RopeScaling, RopeSettings, Yarn};

/// Which of LongRoPE's two sets of frequencies applies to a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeRegime {
    /// Up to the original context length, and for models without LongRoPE.
    Short,
    /// Beyond it, for all positions.
    Long,
}

/// Frequencies and scaling of a RoPE.
#[derive(Clone, Debug)]
pub struct Rope {
    short: Vec<f32>,
    long: Vec<f32>,
    scaling: f32,
    original: usize,
}

impl Rope {
    /// The frequencies 1/(factor·θ^(2i/d)), as Transformers computes them: in `f32` throughout.
    pub fn new(settings: &RopeSettings) -> Self {
        let frequencies = |factor: &dyn Fn(usize) -> f32| -> Vec<f32> {
            let period = |i: usize| (settings.theta as f32).powf((2 * i) as f32 / settings.rotary_dim as f32);
            (0..settings.rotary_dim / 2).map(|i| 1.0 / (factor(i) * period(i))).collect()
        };
        let plain = || frequencies(&|_| 1.0);
        let fixed = |short: Vec<f32>, scaling| Self { long: short.clone(), short, scaling, original: usize::MAX };
        match &settings.scaling {
            RopeScaling::None => fixed(plain(), 1.0),
            RopeScaling::Linear(factor) => fixed(plain().into_iter().map(|f| f / factor).collect(), 1.0),
            RopeScaling::Llama3(llama3) => fixed(plain().into_iter().map(|f| llama3.scale(f)).collect(), 1.0),
            RopeScaling::Yarn(yarn) => {
                let (whole, divided) = (plain(), frequencies(&|_| yarn.factor));
                let band = yarn.band(settings);
                let mixed = whole.into_iter().zip(divided).enumerate().map(|(i, (whole, divided))| {
                    let share = 1.0 - ((i as f32 - band[0]) / (band[1] - band[0])).clamp(0.0, 1.0);
                    divided * (1.0 - share) + whole * share
                });
                fixed(mixed.collect(), yarn.attention_factor)
            }
            RopeScaling::LongRope(long_rope) => Self {
                short: frequencies(&|i| long_rope.short_factor[i]),
                long: frequencies(&|i| long_rope.long_factor[i]),
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

    /// The frequencies of both regimes.
    pub(crate) fn all_frequencies(&self) -> impl Iterator<Item = f32> {
        self.short.iter().chain(&self.long).copied()
    }

    /// The factor of cos and sin.
    pub fn scaling(&self) -> f32 {
        self.scaling
    }
}

impl Llama3 {
    /// Divides low frequencies by the factor, leaves high ones, and mixes the two between.
    fn scale(&self, frequency: f32) -> f32 {
        let turns = self.original_max_position_embeddings as f32 / (std::f32::consts::TAU / frequency);
        if turns < self.low_freq_factor {
            frequency / self.factor
        } else if turns > self.high_freq_factor {
            frequency
        } else {
            let share = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor);
            (1.0 - share) * frequency / self.factor + share * frequency
        }
    }
}

impl Yarn {
    /// The pairs between which frequencies are mixed: where the turns over the original context are `beta_fast` and `beta_slow`.
    fn band(&self, settings: &RopeSettings) -> [f32; 2] {
        let dim = settings.rotary_dim as f64;
        let pair = |turns: f64| {
            dim * (self.original_max_position_embeddings as f64 / (turns * TAU)).ln() / (2.0 * settings.theta.ln())
        };
        let (low, high) = (pair(self.beta_fast), pair(self.beta_slow));
        let (low, high) = if self.truncate { (low.floor(), high.ceil()) } else { (low, high) };
        let (low, high) = (low.max(0.0), high.min(dim - 1.0));
        // A band of no width would divide by zero.
        [low as f32, if low == high { (high + 0.001) as f32 } else { high as f32 }]
    }
}
