//! Presets: named sizes of an evaluation.

use std::{fmt, str::FromStr};

use crate::report::Thresholds;

/// A named size of an evaluation. Parses from, and displays as, its lower-case name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// A model's own prompts, or every fourth standard prompt: 64 tokens each, greedily; and 4 windows of 256 tokens.
    Quick,
    /// 56 standard prompts, 100 tokens each, greedily and sampled at temperature 1; and 16 windows of 512 tokens.
    Standard,
    /// The source report's validation: 10 prompts, 1,000 tokens each, greedily; 16 windows of 512 tokens; long contexts; with
    /// that report's thresholds.
    Report,
    /// Scores the end of contexts of 2,048, 4,096 and 8,192 tokens.
    Long,
}

/// The source report's model: the default one of [`Preset::Report`].
pub const REPORT_MODEL: &str = "microsoft/Phi-3.5-mini-instruct";

/// The source report's example on Phi-3.5-mini-instruct, in token ids: the prompt "The capital of France is", and the greedy
/// continuation "Paris.\n\nParis is the capital city".
pub(crate) const GOLDEN: ([u32; 5], [u32; 10]) =
    ([450, 7483, 310, 3444, 338], [3681, 29889, 13, 13, 2177, 275, 338, 278, 7483, 4272]);

/// The sizes that a preset stands for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Uses every n-th prompt; `None` for no prompts.
    pub prompt_stride: Option<usize>,
    /// Maximum number of tokens to generate, unless a prompt sets its own.
    pub max_new_tokens: usize,
    /// Temperature at which texts are sampled, in addition to the greedy ones.
    pub temperature: Option<f32>,
    /// Number of windows of the text, and tokens in each.
    pub windows: (usize, usize),
    /// Lengths of long contexts in tokens, scored tokens included.
    pub contexts: Vec<usize>,
    /// The thresholds that judged variants are compared with.
    pub thresholds: Thresholds,
    /// Whether the source report's example prompt, where it is among the prompts, must be continued as published.
    pub golden: bool,
}

const LONG: [usize; 3] = [2048, 4096, 8192];

impl Preset {
    /// All presets.
    pub const ALL: [Self; 4] = [Self::Quick, Self::Standard, Self::Report, Self::Long];

    /// The sizes; `own_prompts` says whether the model has prompts of its own, all of which `quick` uses.
    pub fn plan(self, own_prompts: bool) -> Plan {
        let quick = Plan {
            prompt_stride: Some(if own_prompts { 1 } else { 4 }),
            max_new_tokens: 64,
            temperature: None,
            windows: (4, 256),
            contexts: Vec::new(),
            thresholds: Thresholds::ByBits,
            golden: false,
        };
        match self {
            Self::Quick => quick,
            Self::Standard => Plan {
                prompt_stride: Some(1),
                max_new_tokens: 100,
                temperature: Some(1.0),
                windows: (16, 512),
                ..quick
            },
            Self::Report => Plan {
                prompt_stride: Some(6),
                max_new_tokens: 1000,
                windows: (16, 512),
                contexts: LONG.into(),
                thresholds: Thresholds::SourceReport,
                golden: true,
                ..quick
            },
            Self::Long => Plan { prompt_stride: None, windows: (0, 0), contexts: LONG.into(), ..quick },
        }
    }

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Standard => "standard",
            Self::Report => "report",
            Self::Long => "long",
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Preset {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|preset| preset.name() == name)
            .ok_or_else(|| format!("expected one of {}, found `{name}`", Self::ALL.map(Self::name).join(", ")))
    }
}
