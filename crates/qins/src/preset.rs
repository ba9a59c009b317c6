//! What a validation asks where nothing else is said.

use clap::ValueEnum;
use qins_eval::report::Judge;

/// How much is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preset {
    /// Some prompts, greedily: the embedded model's own, or a quarter of the standard ones
    Quick,
    /// 56 prompts of many kinds, 100 tokens each, greedily and at temperature 1, and a text
    Standard,
    /// Ten prompts of 1,000 tokens, a text and long contexts, by the bars of the source report, on its model where none is
    /// named
    Report,
    /// Predictions at the end of 2,048, 4,096 and 8,192 tokens
    Long,
}

/// The source report's model.
pub(crate) const PHI: &str = "microsoft/Phi-3.5-mini-instruct";

/// The source report's one run, on Phi-3.5-mini-instruct: "The capital of France is", and the ten tokens that followed,
/// "Paris.\n\nParis is the capital city".
pub(crate) const GOLDEN: ([u32; 5], [u32; 10]) =
    ([450, 7483, 310, 3444, 338], [3681, 29889, 13, 13, 2177, 275, 338, 278, 7483, 4272]);

/// A preset's questions.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// A prompt of how many is asked; none at all where that is `None`.
    pub(crate) prompts_step: Option<usize>,
    pub(crate) max_new_tokens: usize,
    pub(crate) temperature: Option<f32>,
    /// How many windows of the text are read, and how long each is.
    pub(crate) windows: (usize, usize),
    /// Tokens in all of each context.
    pub(crate) contexts: Vec<usize>,
    pub(crate) judge: Judge,
    /// Whether a prompt that is the source report's, for a model that reads it alike, must be continued as it was there.
    pub(crate) golden: bool,
}

const LONG: [usize; 3] = [2048, 4096, 8192];

impl Preset {
    pub(crate) fn plan(self, embedded: bool) -> Plan {
        let quick = Plan {
            prompts_step: Some(if embedded { 1 } else { 4 }),
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

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Standard => "standard",
            Self::Report => "report",
            Self::Long => "long",
        }
    }
}
