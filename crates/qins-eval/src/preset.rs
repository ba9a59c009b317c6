//! Presets: named sizes of an evaluation.

use std::{fmt, str::FromStr};

use crate::{eval_set::CONTEXT_TAIL_TOKENS, report::Thresholds};

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
    /// For caches of keys and values: the end of passages of 224, 2,048 and 8,192 tokens, of 224 all past token 64.
    Cache,
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
    /// Long contexts, by their length.
    pub contexts: Vec<ContextPlan>,
    /// The thresholds that judged variants are compared with.
    pub thresholds: Thresholds,
    /// Whether the source report's example prompt, where it is among the prompts, must be continued as published.
    pub golden: bool,
}

/// Passages of one length, which are scored at their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextPlan {
    /// Number of tokens, scored ones included.
    pub tokens: usize,
    /// Number of tokens at the end that are scored.
    pub scored: usize,
    /// Passages of each text, where it is long enough.
    pub passages: usize,
}

impl From<usize> for ContextPlan {
    /// Passages of this length, of which the last [`CONTEXT_TAIL_TOKENS`] tokens are scored.
    fn from(tokens: usize) -> Self {
        Self { tokens, scored: CONTEXT_TAIL_TOKENS, passages: 2 }
    }
}

const LONG: [usize; 3] = [2048, 4096, 8192];
const CACHE: [usize; 3] = [224, 2048, 8192];

impl Preset {
    /// All presets.
    pub const ALL: [Self; 5] = [Self::Quick, Self::Standard, Self::Report, Self::Long, Self::Cache];

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
                contexts: LONG.map(|tokens| self.context(tokens)).into(),
                thresholds: Thresholds::SourceReport,
                golden: true,
                ..quick
            },
            Self::Long => self.of_contexts(&LONG, quick),
            Self::Cache => self.of_contexts(&CACHE, quick),
        }
    }

    fn of_contexts(self, lengths: &[usize], plan: Plan) -> Plan {
        let contexts = lengths.iter().map(|tokens| self.context(*tokens)).collect();
        Plan { prompt_stride: None, windows: (0, 0), contexts, ..plan }
    }

    /// How contexts of `tokens` tokens are scored.
    pub fn context(self, tokens: usize) -> ContextPlan {
        match self {
            Self::Quick | Self::Standard | Self::Report | Self::Long => tokens.into(),
            // A cache may keep its first block plain. Long passages cost more, and are fewer.
            Self::Cache => ContextPlan {
                tokens,
                scored: tokens.saturating_sub(64).min(160),
                passages: (1024 / tokens.max(1)).clamp(1, 4),
            },
        }
    }

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Standard => "standard",
            Self::Report => "report",
            Self::Long => "long",
            Self::Cache => "cache",
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
