//! What a validation found: the content of `report.json`, and its judgement.

mod criteria;
mod settings;
mod terminal;

pub use criteria::{Criterion, Role, criteria};
pub use settings::Settings;
pub use terminal::Terminal;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    agreement::Position,
    estimate::{self, Estimate},
    token_match::{self, Divergence, Survival},
};

/// The version of `report.json`.
pub const REPORT_VERSION: u32 = 1;

/// Everything a validation found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Counts incompatible changes of this structure.
    pub report_version: u32,
    /// `true` when every judged candidate met its criteria and every control behaved.
    pub passed: bool,
    /// Where it ran.
    pub environment: Environment,
    /// What ran.
    pub model: Model,
    /// How the baseline did.
    pub baseline: Baseline,
    /// How each candidate compares.
    pub candidates: Vec<Candidate>,
}

/// Machine and versions.
#[derive(Clone, Debug, Serialize)]
pub struct Environment {
    /// This project's version.
    pub qins: String,
    /// Operating system and architecture.
    pub platform: String,
    /// The processor, where the system tells.
    pub cpu: Option<String>,
    /// Threads in use.
    pub threads: usize,
    /// Burn's backend.
    pub backend: String,
    /// The most memory the process ever had, in bytes, where the system tells.
    pub peak_rss_bytes: Option<u64>,
}

/// The model under test.
#[derive(Clone, Debug, Serialize)]
pub struct Model {
    /// Its directory, or that it is the embedded one.
    pub name: String,
    /// `phi3` or `llama`.
    pub model_type: String,
    /// Weights, norms included.
    pub parameters: u64,
    /// Bytes of the plain checkpoint's tensors.
    pub weight_bytes: u64,
}

/// The plain model's run.
#[derive(Clone, Debug, Serialize)]
pub struct Baseline {
    /// Tokens it generated.
    pub generated_tokens: usize,
    /// Generation speed.
    pub tokens_per_second: f64,
    /// What it wrote, prompt by prompt.
    pub texts: Vec<Text>,
}

/// What a model wrote, greedily and on its own.
#[derive(Clone, Debug, Serialize)]
pub struct Text {
    /// The prompt's name.
    pub id: String,
    /// The prompt, where there is a tokenizer.
    pub prompt: Option<String>,
    /// The prompt's tokens.
    pub input_ids: Vec<u32>,
    /// What was generated, where there is a tokenizer.
    pub text: Option<String>,
    /// The generated tokens.
    pub generated_ids: Vec<u32>,
    /// The lead of each token's logit over the next.
    #[serde(skip)]
    pub margins: Vec<f32>,
}

/// One encoded form of the model.
#[derive(Clone, Debug, Serialize)]
pub struct Candidate {
    /// What to call it.
    pub name: String,
    /// Why it is in the run.
    pub role: Role,
    /// What was asked for.
    #[serde(flatten)]
    pub settings: Settings,
    /// How many linears rest in each scheme.
    pub linears: BTreeMap<String, usize>,
    /// Bytes of all weights at rest.
    pub weight_bytes: u64,
    /// Weights in the encoded linears.
    pub encoded_weights: u64,
    /// Bits per encoded weight, parameters included.
    pub bits_per_weight: Option<f64>,
    /// Generation speed.
    pub tokens_per_second: f64,
    /// The comparison.
    pub figures: Figures,
    /// The bars, and whether they were met.
    pub criteria: Vec<Criterion>,
    /// Whether the candidate did what its role asks for.
    pub passed: bool,
    /// Prompt by prompt.
    pub prompts: Vec<PromptResult>,
}

/// A candidate on one prompt.
#[derive(Clone, Debug, Serialize)]
pub struct PromptResult {
    /// The prompt's name.
    pub id: String,
    /// Tokens the baseline generated.
    pub tokens: usize,
    /// Leading tokens the candidate generated alike.
    pub match_length: usize,
    /// Where it left the baseline's text, if it did.
    pub divergence: Option<Divergence>,
    /// What the candidate wrote, where that is something else and there is a tokenizer.
    pub text: Option<String>,
    /// Share of positions with the same likeliest token, teacher-forced.
    pub same_top_rate: Option<f64>,
    /// Mean KL over the positions, teacher-forced, in nats.
    pub mean_kl: Option<f64>,
}

/// A candidate over all prompts.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Prompts whose whole text is the same, with the exact binomial interval.
    pub exact_match: Option<Estimate>,
    /// Generated tokens within the matching prefixes.
    pub matching_tokens: usize,
    /// Tokens the baseline generated.
    pub generated_tokens: usize,
    /// Same-top rate, teacher-forced; bootstrap by prompt.
    pub same_top_rate: Option<Estimate>,
    /// Mean KL from the baseline, in nats; bootstrap by prompt.
    pub mean_kl: Option<Estimate>,
    /// Median KL.
    pub median_kl: Option<f64>,
    /// 99 % quantile of KL.
    pub p99_kl: Option<f64>,
    /// 99.9 % quantile of KL.
    pub p999_kl: Option<f64>,
    /// Largest KL.
    pub max_kl: Option<f64>,
    /// Share of the baseline's ten likeliest tokens that are the candidate's too; bootstrap by prompt, as all below.
    pub top10_overlap: Option<Estimate>,
    /// Cosine of the logits.
    pub cosine: Option<Estimate>,
    /// By how much likelier the candidate finds the baseline's tokens.
    pub probability_change: Option<Estimate>,
    /// The root of the mean square of that.
    pub rms_probability_change: Option<f64>,
    /// ln of the candidate's perplexity over the baseline's on the baseline's tokens, paired by token.
    pub ln_perplexity_ratio: Option<Estimate>,
    /// The share of prompts whose first `tokens` tokens match, from the first length at which it falls on: where a
    /// baseline's text is shorter, its prompt counts up to its end (the product-limit estimate of Kaplan and Meier).
    pub survival: Vec<Survival>,
}

/// Compares one prompt's runs.
pub fn prompt_result(baseline: &Text, candidate: Text, positions: &[Position]) -> PromptResult {
    let mean = |f: &dyn Fn(&Position) -> f64| {
        (!positions.is_empty()).then(|| positions.iter().map(f).sum::<f64>() / positions.len() as f64)
    };
    let (written, candidate_ids) = (&baseline.generated_ids, &candidate.generated_ids);
    let divergence = token_match::divergence(written, candidate_ids, &baseline.margins);
    PromptResult {
        id: candidate.id,
        tokens: written.len(),
        match_length: token_match::match_length(written, candidate_ids),
        text: candidate.text.filter(|_| divergence.is_some()),
        divergence,
        same_top_rate: mean(&|p| f64::from(u8::from(p.same_top))),
        mean_kl: mean(&|p| p.kl),
    }
}

/// Sums up a candidate. `positions` holds each prompt's comparison, in the order of `prompts`.
pub fn figures(prompts: &[PromptResult], positions: &[Vec<Position>]) -> Figures {
    let per_prompt = |f: &dyn Fn(&Position) -> f64| -> Vec<Vec<f64>> {
        positions.iter().map(|tokens| tokens.iter().map(f).collect()).collect()
    };
    let mean = |f: &dyn Fn(&Position) -> f64| estimate::mean_by_prompt(&per_prompt(f));
    let kl = per_prompt(&|p| p.kl);
    let flat = kl.concat();
    let exact = prompts.iter().filter(|p| p.divergence.is_none()).count();
    Figures {
        exact_match: estimate::share(exact as u64, prompts.len() as u64),
        matching_tokens: prompts.iter().map(|p| p.match_length).sum(),
        generated_tokens: prompts.iter().map(|p| p.tokens).sum(),
        same_top_rate: mean(&|p| f64::from(u8::from(p.same_top))),
        mean_kl: estimate::mean_by_prompt(&kl),
        median_kl: estimate::quantile(&flat, 0.5),
        p99_kl: estimate::quantile(&flat, 0.99),
        p999_kl: estimate::quantile(&flat, 0.999),
        max_kl: estimate::quantile(&flat, 1.0),
        top10_overlap: mean(&|p| p.top10_overlap),
        cosine: mean(&|p| p.cosine),
        probability_change: mean(&Position::probability_change),
        rms_probability_change: mean(&|p| p.probability_change().powi(2)).map(|e| e.value.sqrt()),
        ln_perplexity_ratio: mean(&|p| p.surprise - p.baseline_surprise),
        survival: token_match::survival(prompts.iter().map(|p| (p.match_length, p.divergence.is_some()))),
    }
}
