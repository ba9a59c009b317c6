//! The thresholds that candidates are compared with; a report shows each beside what was measured.

use qins_quant::{Scheme, kv::KvScheme};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Computation, Figures, FreeRun, LayerFidelity, PromptResult, Settings};

/// The role of a candidate in an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It must pass all its criteria.
    Judged,
    /// A negative control: it must fail one of its criteria, or the evaluation cannot detect failures.
    Control,
    /// Its metrics are shown and decide nothing.
    Information,
}

impl Role {
    /// Whether a candidate that passed all its criteria (or did not) did what its role requires.
    pub fn is_satisfied(self, passed: bool) -> bool {
        match self {
            Self::Judged => passed,
            Self::Control => !passed,
            Self::Information => true,
        }
    }
}

/// A metric compared with its threshold.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Criterion {
    /// The metric.
    pub name: String,
    /// The threshold with its relation, such as `≤ 0.002`.
    pub threshold: String,
    /// The measured value; null when it is not a number, which fails.
    pub measured: f64,
    /// Whether the measured value satisfies the threshold.
    pub passed: bool,
}

impl Criterion {
    fn at_least(name: &str, threshold: f64, measured: Option<f64>) -> Self {
        let measured = measured.unwrap_or(f64::NAN);
        let passed = measured >= threshold;
        Self { name: name.to_owned(), threshold: format!("≥ {threshold}"), measured, passed }
    }

    fn at_most(name: &str, threshold: f64, measured: Option<f64>) -> Self {
        let measured = measured.unwrap_or(f64::NAN);
        let passed = measured <= threshold;
        Self { name: name.to_owned(), threshold: format!("≤ {threshold}"), measured, passed }
    }
}

/// Which thresholds a candidate is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Thresholds {
    /// A scheme that stores weights exactly must match every token; for others the thresholds depend on its bits per weight.
    ByBits,
    /// The thresholds that the author of the source report set for a validation.
    SourceReport,
    /// A maximum mean KL divergence, in nats.
    MaxKl(f64),
    /// A minimum top-1 agreement, as a share.
    MinTop1Agreement(f64),
}

// The metrics' names in the report.
const EXPECTED_TOKENS: &str = "expected tokens";
const GREEDY_MATCH: &str = "exact-match rate (greedy)";
const SAMPLED_MATCH: &str = "exact-match rate (sampled)";
const MEAN_KL: &str = "mean KL divergence";
const MAX_KL: &str = "max KL divergence";
const TOP1_AGREEMENT: &str = "top-1 agreement";

impl Thresholds {
    /// The criteria of a candidate with these settings, bits per weight and metrics. The same weights in other arithmetic, exact
    /// schemes and encoded KV caches have thresholds of their own, whatever `self` is.
    pub fn criteria(
        self,
        settings: &Settings,
        bits: Option<f64>,
        figures: &Figures,
        prompts: &[PromptResult],
        layers: &[LayerFidelity],
    ) -> Vec<Criterion> {
        let expected: Vec<[usize; 2]> = prompts.iter().filter_map(|prompt| prompt.expected).collect();
        let sum = |i: usize| expected.iter().map(|tokens| tokens[i]).sum::<usize>() as f64;
        let pinned = (!expected.is_empty()).then(|| Criterion::at_least(EXPECTED_TOKENS, sum(1), Some(sum(0))));
        self.of_figures(settings, bits, figures, layers).into_iter().chain(pinned).collect()
    }

    fn of_figures(
        self,
        settings: &Settings,
        bits: Option<f64>,
        figures: &Figures,
        layers: &[LayerFidelity],
    ) -> Vec<Criterion> {
        // The first passages that were scored decide: the greedy texts, else the windows, else the long contexts.
        let contexts = figures.contexts.iter().map(|c| &c.teacher_forced);
        let mut scored = figures.teacher_forced.iter().chain(&figures.text).chain(contexts);
        let first = scored.next();
        let top1_agreement = first.and_then(|f| f.top1_agreement).map(|e| e.value);
        let mean_kl = first.and_then(|f| f.mean_kl).map(|e| e.value);
        let exact = |run: &Option<FreeRun>| run.as_ref().map(|run| run.exact_match_rate.map_or(0.0, |e| e.value));
        let greedy = exact(&figures.greedy).map(|rate| Criterion::at_least(GREEDY_MATCH, 1.0, Some(rate)));
        let sampled = exact(&figures.sampled).map(|rate| Criterion::at_least(SAMPLED_MATCH, 1.0, Some(rate)));
        match (settings.computation, settings.pure_scheme(), self) {
            // The same weights in another order of computation: a hundredth of what bf16 arithmetic changes is plenty.
            (Some(Computation::OneThread | Computation::TokenByToken | Computation::Bf16), ..) => {
                vec![Criterion::at_most(MEAN_KL, 1e-5, mean_kl)]
            }

            // The baseline repeated, and schemes that decode to its very weights.
            (None, Some("none" | "lossless"), _) => {
                let largest = first.into_iter().chain(scored).filter_map(|f| f.max_kl).reduce(largest);
                greedy.into_iter().chain(sampled).chain([Criterion::at_most(MAX_KL, 0.0, largest)]).collect()
            }
            (None, None, Self::ByBits) if settings.scheme == "none" && settings.kv().is_some() => {
                vec![Criterion::at_most(MEAN_KL, settings.kv().map_or(0.0, kv_threshold), mean_kl)]
            }
            (None, Some(scheme), Self::ByBits) if scheme == Scheme::CompandedF32.name() => {
                greedy.into_iter().chain(sampled).collect()
            }
            (None | Some(Computation::CoarseKeys), _, Self::ByBits) => {
                let (min_agreement, max_kl) = thresholds_by_bits(bits.unwrap_or(8.0));
                vec![
                    Criterion::at_least(TOP1_AGREEMENT, min_agreement, top1_agreement),
                    Criterion::at_most(MEAN_KL, max_kl, mean_kl),
                ]
            }
            (None | Some(Computation::CoarseKeys), _, Self::MaxKl(threshold)) => {
                vec![Criterion::at_most(MEAN_KL, threshold, mean_kl)]
            }
            (None | Some(Computation::CoarseKeys), _, Self::MinTop1Agreement(threshold)) => {
                vec![Criterion::at_least(TOP1_AGREEMENT, threshold, top1_agreement)]
            }
            (None | Some(Computation::CoarseKeys), _, Self::SourceReport) => source_report(figures, layers),
        }
    }
}

/// The larger number; NaN when either is NaN.
fn largest(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

/// The thresholds that the source report's author set for a next validation.
fn source_report(figures: &Figures, layers: &[LayerFidelity]) -> Vec<Criterion> {
    let least = layers.iter().map(|layer| layer.cosine.unwrap_or(f64::NAN)).reduce(|a, b| -largest(-a, -b));
    let forced = figures.teacher_forced.as_ref();
    let perplexity = figures.text.as_ref().and_then(|text| Some(text.perplexity? / text.baseline_perplexity?));
    let matching = figures.greedy.as_ref().map(|run| run.matching_tokens as f64 / run.generated_tokens as f64);
    vec![
        Criterion::at_least("min cosine similarity of a linear", 0.9999, least),
        Criterion::at_most(MEAN_KL, 0.1, forced.and_then(|f| f.mean_kl).map(|e| e.value)),
        Criterion::at_least("top-10 overlap", 0.97, forced.and_then(|f| f.top10_overlap).map(|e| e.value)),
        Criterion::at_most("|ΔPPL| / PPL", 0.005, perplexity.map(|ratio| (ratio - 1.0).abs())),
        Criterion::at_least("matching tokens (greedy)", 0.95, matching),
    ]
}

/// Maximum mean KL divergence of plain weights with an encoded KV cache: several times what was measured on three real models.
pub(crate) fn kv_threshold(scheme: KvScheme) -> f64 {
    match scheme {
        KvScheme::F32 | KvScheme::F16 => 1e-4,
        KvScheme::Bf16 => 1e-3,
        KvScheme::Q8 => 1.5e-4,
        KvScheme::K5v5 => 2.3e-3,
        KvScheme::K5v4 => 6.5e-3,
        KvScheme::K4v4 => 1e-2,
        KvScheme::K3v3 => 4e-2,
    }
}

/// Minimum top-1 agreement and maximum mean KL divergence of a lossy scheme: at 8 bits somewhat more than bf16 arithmetic changes
/// on a small model (98.9 %, 7.4e-4); each bit less doubles the step of a code, and so quadruples the divergence.
fn thresholds_by_bits(bits: f64) -> (f64, f64) {
    match bits as u32 {
        7.. => (0.98, 2e-3),
        6 => (0.96, 8e-3),
        5 => (0.92, 3.2e-2),
        4 => (0.85, 0.13),
        3 => (0.70, 0.5),
        _ => (0.50, 2.0),
    }
}
