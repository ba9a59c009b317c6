//! The plots of the report, as SVG that the page's style sheet colours.

mod axis;
mod bars;
mod chart;
mod contexts;
mod histogram;
mod labels;
mod layers;
mod sensitivity;
mod sizes;
mod survival;
mod tradeoff;

use maud::Markup;

use super::{Candidate, Report, Role, TeacherForced};
use crate::estimate::Estimate;

/// A section of drawings of one kind.
pub(super) struct Plot {
    pub(super) title: &'static str,
    /// How to read the drawings.
    pub(super) reading: String,
    /// Each with a heading, where there are several.
    pub(super) drawings: Vec<(Option<String>, Markup)>,
}

/// All plots that have data.
pub(super) fn all(report: &Report) -> Vec<Plot> {
    let plots = [
        tradeoff::plot(report),
        survival::plot(report),
        histogram::plot(report),
        contexts::plot(report),
        layers::plot(report),
        sensitivity::by_block(report),
        sensitivity::by_role(report),
        sizes::plot(report),
    ];
    plots.into_iter().flatten().filter(|plot| !plot.drawings.is_empty()).collect()
}

/// Width and height of a single chart, and of a panel.
const SIZE: [f64; 2] = [520.0, 320.0];
const SMALL: [f64; 2] = [340.0, 220.0];
/// Number of colours in the style sheet.
const COLOURS: usize = 7;
/// Maximum length of a name, in characters.
const LONGEST: usize = 24;

/// The CSS classes of the `i`th colour; when colours repeat, lines are dashed.
fn colour(i: usize) -> String {
    let again = if i < COLOURS { "" } else { " again" };
    format!("c{}{again}", i % COLOURS)
}

/// Each candidate with its CSS classes and its name in plots: a colour for encoded weights, grey for controls.
fn candidates(report: &Report) -> Vec<(&Candidate, String, String)> {
    let mut colours = (0..).map(colour);
    let looks = report.candidates.iter().map(|c| match c.role {
        Role::Control => "grey dotted".to_owned(),
        _ if c.settings.computation.is_some() || c.settings.scheme == "none" => "grey dashed".to_owned(),
        _ => colours.next().unwrap_or_default(),
    });
    let name = |c: &Candidate| match c.role {
        Role::Control => format!("{} (control)", short(&c.name)),
        _ => short(&c.name),
    };
    report.candidates.iter().zip(looks).map(|(c, look)| (c, look, name(c))).collect()
}

/// Shortens a long name to its end, the most telling part of a path.
fn short(name: &str) -> String {
    let over = name.chars().count().saturating_sub(LONGEST);
    if over == 0 { name.to_owned() } else { "…".chars().chain(name.chars().skip(over + 1)).collect() }
}

/// The teacher-forced metrics on the greedy texts, or else on the text.
fn predictions(candidate: &Candidate) -> Option<&TeacherForced> {
    candidate.figures.teacher_forced.as_ref().or(candidate.figures.text.as_ref())
}

/// The value and its interval, when the value is finite.
fn finite(estimate: Option<Estimate>) -> Option<(f64, [f64; 2])> {
    estimate.filter(|e| e.value.is_finite()).map(|e| (e.value, [e.low, e.high]))
}

#[cfg(test)]
mod tests {
    use super::{super::sample, *};

    fn titles(report: &Report) -> Vec<&'static str> {
        all(report).iter().map(|plot| plot.title).collect()
    }

    #[test]
    fn every_plot_with_data_is_drawn() {
        let report = sample::report();
        assert_eq!(all(&report).len(), 8, "{:?}", titles(&report));
        let drawn: String =
            all(&report).into_iter().flat_map(|p| p.drawings).map(|(_, svg)| svg.into_string()).collect();
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
        assert!(drawn.contains("q8 &lt;b&gt;") && !drawn.contains("<b>"));
    }

    #[test]
    fn long_names_keep_their_end() {
        assert_eq!(short("q8"), "q8");
        assert_eq!(short("/a/directory/of/models/ätlas-q8"), "…tory/of/models/ätlas-q8");
    }

    #[test]
    fn plots_without_data_are_left_out() {
        assert_eq!(titles(&sample::bare()), ["Sizes"]);
        let mut report = sample::bare();
        report.candidates.clear();
        report.model.weight_bytes = 0;
        assert!(titles(&report).is_empty());
    }

    #[test]
    fn non_finite_values_are_left_out() {
        let mut report = sample::report();
        let nan = Some(Estimate { value: f64::NAN, low: f64::NAN, high: f64::NAN });
        for candidate in &mut report.candidates {
            candidate.bits_per_weight = Some(f64::NAN);
            candidate.layers.iter_mut().for_each(|layer| layer.sqnr_db = Some(f64::INFINITY));
            let teacher_forced = candidate.figures.teacher_forced.iter_mut();
            for teacher_forced in
                teacher_forced.chain(candidate.figures.contexts.iter_mut().map(|c| &mut c.teacher_forced))
            {
                teacher_forced.mean_kl = nan;
                teacher_forced.kl_histogram.clear();
            }
        }
        report.sensitivity.iter_mut().for_each(|part| part.mean_kl = nan);
        assert_eq!(titles(&report), ["Matching texts by length", "Sizes"]);
    }
}
