//! How much a validation asks of each model where nothing else is said.

use std::{fmt, str::FromStr};

use crate::report::Judge;

/// How much is asked of each model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Some prompts, greedily: a model's own where it has any, or a quarter of the standard ones.
    Quick,
    /// 56 prompts of many kinds, 100 tokens each, greedily and at temperature 1, and a text.
    Standard,
    /// Ten prompts of 1,000 tokens, a text and long contexts, by the bars of the source report, on its model where none is
    /// named.
    Report,
    /// Predictions at the end of 2,048, 4,096 and 8,192 tokens.
    Long,
}

/// The source report's model.
pub const REPORT_MODEL: &str = "microsoft/Phi-3.5-mini-instruct";

/// The source report's one run, on Phi-3.5-mini-instruct: "The capital of France is", and the ten tokens that followed,
/// "Paris.\n\nParis is the capital city".
pub(crate) const GOLDEN: ([u32; 5], [u32; 10]) =
    ([450, 7483, 310, 3444, 338], [3681, 29889, 13, 13, 2177, 275, 338, 278, 7483, 4272]);

/// What a preset asks.
#[derive(Clone, Debug)]
pub struct Plan {
    /// A prompt of how many is asked; none at all where that is `None`.
    pub prompts_step: Option<usize>,
    /// Tokens to generate at most, where a prompt does not say.
    pub max_new_tokens: usize,
    /// Texts are drawn at this temperature too.
    pub temperature: Option<f32>,
    /// How many windows of the text are read, and how long each is.
    pub windows: (usize, usize),
    /// Tokens in all of each context.
    pub contexts: Vec<usize>,
    /// The bars.
    pub judge: Judge,
    /// Whether a prompt that is the source report's, for a model that reads it alike, must be continued as it was there.
    pub golden: bool,
}

const LONG: [usize; 3] = [2048, 4096, 8192];

impl Preset {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Quick, Self::Standard, Self::Report, Self::Long];

    /// What it asks; `own_prompts` says that the model has prompts of its own, of which a quick run takes all.
    pub fn plan(self, own_prompts: bool) -> Plan {
        let quick = Plan {
            prompts_step: Some(if own_prompts { 1 } else { 4 }),
            max_new_tokens: 64,
            temperature: None,
            windows: (4, 256),
            contexts: Vec::new(),
            judge: Judge::Bits,
            golden: false,
        };
        match self {
            Self::Quick => quick,
            Self::Standard => {
                Plan { prompts_step: Some(1), max_new_tokens: 100, temperature: Some(1.0), windows: (16, 512), ..quick }
            }
            Self::Report => Plan {
                prompts_step: Some(6),
                max_new_tokens: 1000,
                windows: (16, 512),
                contexts: LONG.into(),
                judge: Judge::SourceReport,
                golden: true,
                ..quick
            },
            Self::Long => Plan { prompts_step: None, windows: (0, 0), contexts: LONG.into(), ..quick },
        }
    }

    /// Its name.
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
