//! The bars a candidate is judged by, each printed beside what was found.

use serde::Serialize;

use super::{Figures, Settings};

/// Why a candidate is in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize)]
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

/// The bars of a form: one that keeps the weights must keep every token; one that rounds them is held to the published
/// fidelity of 8-bit formats.
pub fn criteria(settings: &Settings, bits: Option<f64>, figures: &Figures) -> Vec<Criterion> {
    let same_top = figures.same_top_rate.map(|e| e.value);
    let mean_kl = figures.mean_kl.map(|e| e.value);
    match settings.pure_scheme() {
        // The baseline against itself, and what has its very weights.
        Some("none" | "lossless") => vec![
            Criterion::at_least("exact match", 1.0, figures.exact_match.map(|e| e.value)),
            Criterion::at_most("largest KL", 0.0, figures.max_kl),
        ],
        Some("f32") => vec![Criterion::at_least("exact match", 1.0, figures.exact_match.map(|e| e.value))],
        _ => {
            let (same_top_bar, kl_bar) = bars(bits.unwrap_or(8.0));
            vec![
                Criterion::at_least("same-top rate", same_top_bar, same_top),
                Criterion::at_most("mean KL", kl_bar, mean_kl),
            ]
        }
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
