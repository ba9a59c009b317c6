//! The metrics of a candidate, and how they are aggregated over prompts and passages.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    agreement::Position,
    estimate::{self, Estimate},
    token_match::{self, Divergence, Survival},
};

/// All metrics of a candidate.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Figures {
    /// Free-running, greedy.
    pub greedy: Option<FreeRun>,
    /// Free-running, sampled with the same random numbers as the baseline.
    pub sampled: Option<FreeRun>,
    /// Teacher-forced on the baseline's greedy texts.
    pub teacher_forced: Option<TeacherForced>,
    /// Teacher-forced on windows of the text.
    pub text: Option<TeacherForced>,
    /// Teacher-forced at the end of long contexts of the text, by length.
    pub contexts: Vec<Context>,
}

/// Metrics of texts that both models generate on their own.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct FreeRun {
    /// Exact-match rate: share of prompts whose whole text is the same, with the exact binomial interval.
    pub exact_match_rate: Option<Estimate>,
    /// Number of generated tokens within matching prefixes.
    pub matching_tokens: usize,
    /// Number of tokens the baseline generated.
    pub generated_tokens: usize,
    /// Median length of the matching prefix in tokens, with a bootstrap interval by prompt. A text that matches to its end counts
    /// with its length.
    pub median_match_length: Option<Estimate>,
    /// Share of prompts whose first `tokens` tokens match, at each length where it falls; texts that end are censored (the
    /// product-limit estimate of Kaplan and Meier).
    pub survival: Vec<Survival>,
}

/// Metrics of predictions of the same tokens by both models. Intervals are bootstrapped by prompt, or by passage of the text.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct TeacherForced {
    /// Number of positions compared.
    pub positions: usize,
    /// Top-1 agreement: share of positions with the same top-1 token.
    pub top1_agreement: Option<Estimate>,
    /// Mean KL divergence KL(baseline‖candidate), in nats.
    pub mean_kl: Option<Estimate>,
    /// Median KL divergence, in nats.
    pub median_kl: Option<f64>,
    /// 99th percentile of the KL divergence, in nats.
    pub p99_kl: Option<f64>,
    /// 99.9th percentile of the KL divergence, in nats.
    pub p999_kl: Option<f64>,
    /// Maximum KL divergence, in nats.
    pub max_kl: Option<f64>,
    /// Number of positions by KL divergence, in 18 bins: below 1e-8, then half a decade each, the last from 1 on.
    pub kl_histogram: Vec<usize>,
    /// Top-10 overlap: share of the baseline's top-10 tokens that are among the candidate's.
    pub top10_overlap: Option<Estimate>,
    /// Cosine similarity of the logits.
    pub cosine: Option<Estimate>,
    /// Probability of the same token when sampled with common random numbers (Gumbel-max coupling).
    pub coupled_agreement: Option<Estimate>,
    /// Mean Δp: the candidate's probability of the reference token less the baseline's.
    pub probability_change: Option<Estimate>,
    /// Root mean square of Δp.
    pub rms_probability_change: Option<f64>,
    /// The baseline's perplexity of the reference tokens.
    pub baseline_perplexity: Option<f64>,
    /// The candidate's perplexity of the reference tokens.
    pub perplexity: Option<f64>,
    /// ln of the candidate's perplexity over the baseline's, paired by token: the mean difference of negative log-likelihoods.
    pub ln_perplexity_ratio: Option<Estimate>,
}

/// Metrics at the end of contexts of one length.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Context {
    /// Number of tokens read before the first scored one.
    pub tokens: usize,
    /// Number of tokens of each context, scored ones included.
    pub length: usize,
    /// The metrics.
    #[serde(flatten)]
    pub teacher_forced: TeacherForced,
}

/// Metrics of one prompt.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PromptResult {
    /// The prompt's id.
    pub id: String,
    /// Number of tokens the baseline generated greedily.
    pub tokens: usize,
    /// Top-1 agreement, teacher-forced on the baseline's greedy text.
    pub top1_agreement: Option<f64>,
    /// Mean KL divergence over the same positions, in nats.
    pub mean_kl: Option<f64>,
    /// Of the prompt's expected tokens, how many its greedy text begins with, and how many there are.
    pub expected: Option<[usize; 2]>,
    /// Its greedy text.
    pub greedy: Option<Continuation>,
    /// Its text sampled with the baseline's random numbers.
    pub sampled: Option<Continuation>,
}

/// A candidate's generated text compared with the baseline's.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Continuation {
    /// Number of tokens the baseline generated.
    pub tokens: usize,
    /// Length of the matching prefix, in tokens.
    pub match_length: usize,
    /// Where the texts diverge; null when they are equal.
    pub divergence: Option<Divergence>,
    /// The candidate's text; null when the texts are equal, or without a tokenizer.
    pub text: Option<String>,
}

/// The bin of a KL divergence in [`TeacherForced::kl_histogram`]: 0 for one below 1e-8, then half a decade each; the last for 1 and
/// more, and for NaN.
///
/// ```
/// use qins_eval::report::{KL_BINS, kl_bin};
/// assert_eq!([0.0, 0.9e-8, 1e-8, 4e-8, 1.0, 9.0, f64::NAN].map(kl_bin), [0, 0, 1, 2, 17, 17, KL_BINS - 1]);
/// ```
pub fn kl_bin(kl: f64) -> usize {
    if kl < 1e-8 {
        return 0;
    }
    // NaN counts as the largest divergence, never as agreement.
    let half_decades = if kl.is_nan() { f64::INFINITY } else { 2.0 * (kl.log10() + 8.0) };
    (half_decades.floor() as usize).saturating_add(1).min(KL_BINS - 1)
}

/// Number of bins of [`TeacherForced::kl_histogram`].
pub const KL_BINS: usize = 18;

/// Compares a candidate's token ids with the baseline's; `margins` are the baseline's logit margins, one per token, and `text` is the
/// candidate's decoded text.
pub fn continuation(baseline: &[u32], candidate: &[u32], margins: &[f32], text: Option<String>) -> Continuation {
    let divergence = token_match::divergence(baseline, candidate, margins);
    Continuation {
        tokens: baseline.len(),
        match_length: token_match::match_length(baseline, candidate),
        text: text.filter(|_| divergence.is_some()),
        divergence,
    }
}

/// Aggregates texts, one per prompt; `None` when there are none.
pub fn free_run<'a>(texts: impl IntoIterator<Item = &'a Continuation>) -> Option<FreeRun> {
    let texts: Vec<&Continuation> = texts.into_iter().collect();
    let exact = texts.iter().filter(|t| t.divergence.is_none()).count();
    let lengths: Vec<f64> = texts.iter().map(|t| t.match_length as f64).collect();
    (!texts.is_empty()).then(|| FreeRun {
        exact_match_rate: estimate::share(exact as u64, texts.len() as u64),
        matching_tokens: texts.iter().map(|t| t.match_length).sum(),
        generated_tokens: texts.iter().map(|t| t.tokens).sum(),
        median_match_length: estimate::median(&lengths),
        survival: token_match::survival(texts.iter().map(|t| (t.match_length, t.divergence.is_some()))),
    })
}

/// Aggregates positions, one list per prompt or passage; `None` when there is no position.
pub fn teacher_forced(passages: &[Vec<Position>]) -> Option<TeacherForced> {
    let per_passage = |f: &dyn Fn(&Position) -> f64| -> Vec<Vec<f64>> {
        passages.iter().map(|tokens| tokens.iter().map(f).collect()).collect()
    };
    let mean = |f: &dyn Fn(&Position) -> f64| estimate::mean_by_prompt(&per_passage(f));
    let kl = per_passage(&|p| p.kl);
    let flat = kl.concat();
    let mut kl_histogram = vec![0; KL_BINS];
    flat.iter().for_each(|kl| kl_histogram[kl_bin(*kl)] += 1);
    let perplexity = |f: &dyn Fn(&Position) -> f64| mean(f).map(|nll| nll.value.exp());
    (!flat.is_empty()).then(|| TeacherForced {
        positions: flat.len(),
        top1_agreement: mean(&|p| f64::from(u8::from(p.top1_agrees))),
        mean_kl: estimate::mean_by_prompt(&kl),
        median_kl: estimate::quantile(&flat, 0.5),
        p99_kl: estimate::quantile(&flat, 0.99),
        p999_kl: estimate::quantile(&flat, 0.999),
        max_kl: estimate::quantile(&flat, 1.0),
        kl_histogram,
        top10_overlap: mean(&|p| p.top10_overlap),
        cosine: mean(&|p| p.cosine),
        coupled_agreement: mean(&|p| p.coupled_agreement),
        probability_change: mean(&Position::probability_change),
        rms_probability_change: mean(&|p| p.probability_change().powi(2)).map(|e| e.value.sqrt()),
        baseline_perplexity: perplexity(&|p| p.baseline_nll),
        perplexity: perplexity(&|p| p.nll),
        ln_perplexity_ratio: mean(&|p| p.nll - p.baseline_nll),
    })
}
