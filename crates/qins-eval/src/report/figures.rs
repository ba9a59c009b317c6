//! The figures of a candidate, and how they are summed up.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    agreement::Position,
    estimate::{self, Estimate},
    token_match::{self, Divergence, Survival},
};

/// A candidate over all prompts.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Figures {
    /// What it writes on its own, always the likeliest token.
    pub greedy: Option<FreeRun>,
    /// What it writes on its own, drawn with the random numbers the baseline was drawn with.
    pub sampled: Option<FreeRun>,
    /// What it predicts after the baseline's greedy words.
    pub forced: Option<Forced>,
    /// What it predicts in the pinned text.
    pub text: Option<Forced>,
    /// What it predicts after the beginning of the pinned text, of so many tokens.
    pub contexts: Vec<Context>,
}

/// Both models write on their own.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct FreeRun {
    /// Prompts whose whole text is the same, with the exact binomial interval.
    pub exact_match: Option<Estimate>,
    /// Generated tokens within the matching prefixes.
    pub matching_tokens: usize,
    /// Tokens the baseline generated.
    pub generated_tokens: usize,
    /// The median length of the matching prefix, in tokens, with a bootstrap interval by prompt. A text that matches to its
    /// end counts with its length.
    pub median_match: Option<Estimate>,
    /// The share of prompts whose first `tokens` tokens match, from the first length at which it falls on: where a
    /// baseline's text is shorter, its prompt counts up to its end (the product-limit estimate of Kaplan and Meier).
    pub survival: Vec<Survival>,
}

/// Both models read the same tokens. Intervals are bootstrapped by prompt, or by window of a text.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Forced {
    /// Positions compared.
    pub positions: usize,
    /// Share of positions where both would say the same next.
    pub same_top_rate: Option<Estimate>,
    /// Mean KL from the baseline, in nats.
    pub mean_kl: Option<Estimate>,
    /// Median KL.
    pub median_kl: Option<f64>,
    /// 99 % quantile of KL.
    pub p99_kl: Option<f64>,
    /// 99.9 % quantile of KL.
    pub p999_kl: Option<f64>,
    /// Largest KL.
    pub max_kl: Option<f64>,
    /// Positions by their KL: see [`kl_bin`].
    pub kl_histogram: Vec<usize>,
    /// Share of the baseline's ten likeliest tokens that are the candidate's too.
    pub top10_overlap: Option<Estimate>,
    /// Cosine of the logits.
    pub cosine: Option<Estimate>,
    /// Probability that the same random numbers draw the same token from both.
    pub same_draw: Option<Estimate>,
    /// By how much likelier the candidate finds the token that follows.
    pub probability_change: Option<Estimate>,
    /// The root of the mean square of that.
    pub rms_probability_change: Option<f64>,
    /// The baseline's perplexity.
    pub baseline_perplexity: Option<f64>,
    /// The candidate's.
    pub perplexity: Option<f64>,
    /// ln of the candidate's perplexity over the baseline's, paired by token.
    pub ln_perplexity_ratio: Option<Estimate>,
}

/// What is predicted after so many tokens of a text.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Context {
    /// Tokens read before the first that is predicted.
    pub tokens: usize,
    /// The predictions.
    #[serde(flatten)]
    pub forced: Forced,
}

/// One prompt under one candidate.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PromptResult {
    /// The prompt's name.
    pub id: String,
    /// Tokens the baseline generated.
    pub tokens: usize,
    /// Same-top rate over the positions, after the baseline's words.
    pub same_top_rate: Option<f64>,
    /// Mean KL over the positions, in nats.
    pub mean_kl: Option<f64>,
    /// Of the tokens that its prompt's file says it should write greedily, how many it wrote from the start, and how many
    /// there are.
    pub expected: Option<[usize; 2]>,
    /// Its own greedy text.
    pub greedy: Option<Continuation>,
    /// Its own text drawn with the baseline's random numbers.
    pub sampled: Option<Continuation>,
}

/// A candidate's text beside the baseline's.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Continuation {
    /// Tokens the baseline generated.
    pub tokens: usize,
    /// Generated tokens that match from the start.
    pub match_length: usize,
    /// Where the texts part, if they do.
    pub divergence: Option<Divergence>,
    /// The candidate's text where it differs, and there is a tokenizer.
    pub text: Option<String>,
}

/// Of a candidate's [`Forced::kl_histogram`], the bin that a KL belongs to: 0 for one below 1e-8, then half a decade each,
/// the last for 1 and more.
///
/// ```
/// use qins_eval::report::{KL_BINS, kl_bin};
/// assert_eq!([0.0, 0.9e-8, 1e-8, 4e-8, 1.0, 9.0, f64::NAN].map(kl_bin), [0, 0, 1, 2, 17, 17, KL_BINS - 1]);
/// ```
pub fn kl_bin(kl: f64) -> usize {
    if kl < 1e-8 {
        return 0;
    }
    // Of a NaN the last: what cannot be compared is no agreement.
    let half_decades = if kl.is_nan() { f64::INFINITY } else { 2.0 * (kl.log10() + 8.0) };
    (half_decades.floor() as usize).saturating_add(1).min(KL_BINS - 1)
}

/// Bins of [`Forced::kl_histogram`].
pub const KL_BINS: usize = 18;

/// Compares a candidate's text with the baseline's; `margins` are the baseline's, one a token.
pub fn continuation(baseline: &[u32], candidate: &[u32], margins: &[f32], text: Option<String>) -> Continuation {
    let divergence = token_match::divergence(baseline, candidate, margins);
    Continuation {
        tokens: baseline.len(),
        match_length: token_match::match_length(baseline, candidate),
        text: text.filter(|_| divergence.is_some()),
        divergence,
    }
}

/// Sums up texts; `None` where there are none.
pub fn free_run<'a>(texts: impl IntoIterator<Item = &'a Continuation>) -> Option<FreeRun> {
    let texts: Vec<&Continuation> = texts.into_iter().collect();
    let exact = texts.iter().filter(|t| t.divergence.is_none()).count();
    let lengths: Vec<f64> = texts.iter().map(|t| t.match_length as f64).collect();
    (!texts.is_empty()).then(|| FreeRun {
        exact_match: estimate::share(exact as u64, texts.len() as u64),
        matching_tokens: texts.iter().map(|t| t.match_length).sum(),
        generated_tokens: texts.iter().map(|t| t.tokens).sum(),
        median_match: estimate::median(&lengths),
        survival: token_match::survival(texts.iter().map(|t| (t.match_length, t.divergence.is_some()))),
    })
}

/// Sums up predictions, prompt by prompt or window by window; `None` where there are none.
pub fn forced(passages: &[Vec<Position>]) -> Option<Forced> {
    let per_passage = |f: &dyn Fn(&Position) -> f64| -> Vec<Vec<f64>> {
        passages.iter().map(|tokens| tokens.iter().map(f).collect()).collect()
    };
    let mean = |f: &dyn Fn(&Position) -> f64| estimate::mean_by_prompt(&per_passage(f));
    let kl = per_passage(&|p| p.kl);
    let flat = kl.concat();
    let mut kl_histogram = vec![0; KL_BINS];
    flat.iter().for_each(|kl| kl_histogram[kl_bin(*kl)] += 1);
    let perplexity = |f: &dyn Fn(&Position) -> f64| mean(f).map(|surprise| surprise.value.exp());
    (!flat.is_empty()).then(|| Forced {
        positions: flat.len(),
        same_top_rate: mean(&|p| f64::from(u8::from(p.same_top))),
        mean_kl: estimate::mean_by_prompt(&kl),
        median_kl: estimate::quantile(&flat, 0.5),
        p99_kl: estimate::quantile(&flat, 0.99),
        p999_kl: estimate::quantile(&flat, 0.999),
        max_kl: estimate::quantile(&flat, 1.0),
        kl_histogram,
        top10_overlap: mean(&|p| p.top10_overlap),
        cosine: mean(&|p| p.cosine),
        same_draw: mean(&|p| p.same_draw),
        probability_change: mean(&Position::probability_change),
        rms_probability_change: mean(&|p| p.probability_change().powi(2)).map(|e| e.value.sqrt()),
        baseline_perplexity: perplexity(&|p| p.baseline_surprise),
        perplexity: perplexity(&|p| p.surprise),
        ln_perplexity_ratio: mean(&|p| p.surprise - p.baseline_surprise),
    })
}
