//! The bars a candidate is judged by, each printed beside what was found.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Figures, FreeRun, Layer, PromptResult, Settings};

/// Why a candidate is in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It must meet its bars.
    Judged,
    /// It must miss them: a harness that cannot fail proves nothing.
    Control,
    /// Its figures are shown, and decide nothing.
    Information,
}

impl Role {
    /// Whether a candidate that met (or missed) its bars did what its role asks for.
    pub fn is_satisfied(self, met: bool) -> bool {
        match self {
            Self::Judged => met,
            Self::Control => !met,
            Self::Information => true,
        }
    }
}

/// A bar, and what was found.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Criterion {
    /// What is measured.
    pub name: String,
    /// The bar, written out.
    pub bar: String,
    /// What was found.
    pub found: f64,
    /// Whether the bar is met.
    pub met: bool,
}

impl Criterion {
    fn at_least(name: &str, bar: f64, found: Option<f64>) -> Self {
        let found = found.unwrap_or(f64::NAN);
        Self { name: name.to_owned(), bar: format!("≥ {bar}"), found, met: found >= bar }
    }

    fn at_most(name: &str, bar: f64, found: Option<f64>) -> Self {
        let found = found.unwrap_or(f64::NAN);
        Self { name: name.to_owned(), bar: format!("≤ {bar}"), found, met: found <= bar }
    }
}

/// By which bars a form is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Judge {
    /// One that keeps the weights must keep every token; one that rounds them is held to bars that grow as its bits fall.
    Bits,
    /// By what the author of the source report asked of a longer validation.
    SourceReport,
    /// Mean KL at most.
    Kl(f64),
    /// Same-top rate at least.
    Match(f64),
}

impl Judge {
    /// The bars, and what was found.
    pub fn criteria(
        self,
        settings: &Settings,
        bits: Option<f64>,
        figures: &Figures,
        prompts: &[PromptResult],
        layers: &[Layer],
    ) -> Vec<Criterion> {
        let expected: Vec<[usize; 2]> = prompts.iter().filter_map(|prompt| prompt.expected).collect();
        let sum = |i: usize| expected.iter().map(|tokens| tokens[i]).sum::<usize>() as f64;
        let pinned = (!expected.is_empty()).then(|| Criterion::at_least("expected tokens", sum(1), Some(sum(0))));
        self.of_figures(settings, bits, figures, layers).into_iter().chain(pinned).collect()
    }

    fn of_figures(self, settings: &Settings, bits: Option<f64>, figures: &Figures, layers: &[Layer]) -> Vec<Criterion> {
        // What was predicted, wherever that was.
        let mut forced = figures.forced.iter().chain(&figures.text).chain(figures.contexts.iter().map(|c| &c.forced));
        let first = forced.next();
        let same_top = first.and_then(|f| f.same_top_rate).map(|e| e.value);
        let mean_kl = first.and_then(|f| f.mean_kl).map(|e| e.value);
        let exact = |run: &Option<FreeRun>| run.as_ref().map(|run| run.exact_match.map_or(0.0, |e| e.value));
        let greedy = exact(&figures.greedy).map(|found| Criterion::at_least("exact match", 1.0, Some(found)));
        let sampled = exact(&figures.sampled).map(|found| Criterion::at_least("sampled match", 1.0, Some(found)));
        match (settings.computation, settings.pure_scheme(), self) {
            // The same weights, computed in another order: a hundredth of what bf16 arithmetic changes is plenty.
            (Some(_), ..) => vec![Criterion::at_most("mean KL", 1e-5, mean_kl)],
            // The baseline against itself, and what has its very weights.
            (None, Some("none" | "lossless"), _) => {
                let largest = first.into_iter().chain(forced).filter_map(|f| f.max_kl).reduce(largest);
                greedy.into_iter().chain(sampled).chain([Criterion::at_most("largest KL", 0.0, largest)]).collect()
            }
            (None, None, Self::Bits) if settings.kv.is_some() && settings.scheme == "none" => {
                vec![Criterion::at_most("mean KL", kv_bar(settings), mean_kl)]
            }
            (None, Some("companded-f32"), Self::Bits) => greedy.into_iter().chain(sampled).collect(),
            (None, _, Self::Bits) => {
                let (same_top_bar, kl_bar) = bars(bits.unwrap_or(8.0));
                vec![
                    Criterion::at_least("same-top rate", same_top_bar, same_top),
                    Criterion::at_most("mean KL", kl_bar, mean_kl),
                ]
            }
            (None, _, Self::Kl(bar)) => vec![Criterion::at_most("mean KL", bar, mean_kl)],
            (None, _, Self::Match(bar)) => vec![Criterion::at_least("same-top rate", bar, same_top)],
            (None, _, Self::SourceReport) => source_report(figures, layers),
        }
    }
}

/// The larger, and NaN where one is.
fn largest(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

/// The bars that the source report's author set for a next validation, and the one it reports itself.
fn source_report(figures: &Figures, layers: &[Layer]) -> Vec<Criterion> {
    let least = layers.iter().map(|layer| layer.cosine.unwrap_or(f64::NAN)).reduce(|a, b| -largest(-a, -b));
    let forced = figures.forced.as_ref();
    let perplexity = figures.text.as_ref().and_then(|text| Some(text.perplexity? / text.baseline_perplexity?));
    let matching = figures.greedy.as_ref().map(|run| run.matching_tokens as f64 / run.generated_tokens as f64);
    vec![
        Criterion::at_least("cosine of every linear", 0.9999, least),
        Criterion::at_most("mean KL", 0.1, forced.and_then(|f| f.mean_kl).map(|e| e.value)),
        Criterion::at_least("top-10 overlap", 0.97, forced.and_then(|f| f.top10_overlap).map(|e| e.value)),
        Criterion::at_most("|ΔPPL| / PPL", 0.005, perplexity.map(|ratio| (ratio - 1.0).abs())),
        Criterion::at_least("matching tokens", 0.95, matching),
    ]
}

/// Mean KL asked of plain weights with an encoded cache: for 8 bits what llama.cpp's cache of that size was measured at, for 4
/// bits ten times that.
fn kv_bar(settings: &Settings) -> f64 {
    match settings.kv.as_deref() {
        Some("q4") => 1e-2,
        Some("f16") => 1e-4,
        _ => 1e-3,
    }
}

/// Same-top rate and mean KL asked of a rounding scheme: at 8 bits somewhat more than BF16 arithmetic itself changes on a
/// small model (98.9 %, 7.4e-4), and with each bit less four times the divergence, as the step of a code doubles.
fn bars(bits: f64) -> (f64, f64) {
    match bits as u32 {
        7.. => (0.98, 2e-3),
        6 => (0.96, 8e-3),
        5 => (0.92, 3.2e-2),
        4 => (0.85, 0.13),
        3 => (0.70, 0.5),
        _ => (0.50, 2.0),
    }
}
