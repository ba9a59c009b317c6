//! Formatting of numbers, the same in every rendering of the report.

use crate::estimate::Estimate;

/// Shown where there is no value.
pub(super) const NONE: &str = "–";

pub(super) fn figure(x: f64) -> String {
    if x == 0.0 {
        "0".to_owned()
    } else if !(0.01..1e6).contains(&x.abs()) {
        format!("{x:.2e}")
    } else {
        format!("{x:.4}")
    }
}

pub(super) fn optional(x: Option<f64>) -> String {
    x.map_or(NONE.to_owned(), figure)
}

/// A value with its interval.
pub(super) fn estimated(estimate: Option<Estimate>) -> String {
    interval(estimate, figure)
}

/// A share in percent, with its interval.
pub(super) fn percent(estimate: Option<Estimate>, digits: usize) -> String {
    estimate.map_or(NONE.to_owned(), |Estimate { value, low, high }| {
        let [value, low, high] = [value, low, high].map(|x| format!("{:.digits$}", 100.0 * x));
        format!("{value} % [{low}, {high}]")
    })
}

pub(super) fn interval(estimate: Option<Estimate>, write: impl Fn(f64) -> String) -> String {
    estimate.map_or(NONE.to_owned(), |e| format!("{} [{}, {}]", write(e.value), write(e.low), write(e.high)))
}

pub(super) fn bits(bits: Option<f64>) -> String {
    bits.map_or(NONE.to_owned(), |bits| format!("{bits:.2}"))
}

pub(super) fn bytes(n: u64) -> String {
    humansize::format_size(n, humansize::BINARY)
}

pub(super) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let grouped: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|three| str::from_utf8(three).ok()).collect();
    grouped.join(",")
}

#[cfg(test)]
#[test]
fn figures_are_short() {
    // The perplexity of a control whose logits are far off.
    let found = [0.0, 1.5e-3, -0.0429, 17.6, 106_119.912, 6.34e223].map(figure);
    assert_eq!(found, ["0", "1.50e-3", "-0.0429", "17.6000", "106119.9120", "6.34e223"]);
}
