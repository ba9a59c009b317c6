//! The report's plots, as SVG that the page's style sheet colours.

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

use super::{Candidate, Forced, Report, Role};
use crate::estimate::Estimate;

/// Drawings that are read in one way.
pub(super) struct Plot {
    pub(super) title: &'static str,
    /// How to read them.
    pub(super) reading: String,
    /// Each with a heading, where there are several.
    pub(super) drawings: Vec<(Option<String>, Markup)>,
}

/// All plots that have something to show.
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

/// Width and height of a chart, and of one of many.
const SIZE: [f64; 2] = [520.0, 320.0];
const SMALL: [f64; 2] = [340.0, 220.0];
/// How many colours the style sheet has.
const COLOURS: usize = 7;
/// Characters of a name.
const LONGEST: usize = 24;

/// The classes of the `i`th colour; where colours begin again, lines are dashed.
fn colour(i: usize) -> String {
    let again = if i < COLOURS { "" } else { " again" };
    format!("c{}{again}", i % COLOURS)
}

/// Each candidate with the classes of its look and its name in plots: a colour for the encoded ones, grey for those
/// that show what a comparison is worth.
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

/// The end of a long name, which of a path says most.
fn short(name: &str) -> String {
    let over = name.chars().count().saturating_sub(LONGEST);
    if over == 0 { name.to_owned() } else { "…".chars().chain(name.chars().skip(over + 1)).collect() }
}

/// What a candidate predicts, wherever that was.
fn predictions(candidate: &Candidate) -> Option<&Forced> {
    candidate.figures.forced.as_ref().or(candidate.figures.text.as_ref())
}

/// The figure and its interval, where it is a number.
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
    fn what_a_report_has_is_drawn() {
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
    fn what_it_lacks_is_not() {
        assert_eq!(titles(&sample::bare()), ["Sizes"]);
        let mut report = sample::bare();
        report.candidates.clear();
        report.model.weight_bytes = 0;
        assert!(titles(&report).is_empty());
    }

    #[test]
    fn figures_that_are_no_numbers_break_nothing() {
        let mut report = sample::report();
        let nan = Some(Estimate { value: f64::NAN, low: f64::NAN, high: f64::NAN });
        for candidate in &mut report.candidates {
            candidate.bits_per_weight = Some(f64::NAN);
            candidate.layers.iter_mut().for_each(|layer| layer.sqnr_db = Some(f64::INFINITY));
            let forced = candidate.figures.forced.iter_mut();
            for forced in forced.chain(candidate.figures.contexts.iter_mut().map(|c| &mut c.forced)) {
                forced.mean_kl = nan;
                forced.kl_histogram.clear();
            }
        }
        report.sensitivity.iter_mut().for_each(|part| part.mean_kl = nan);
        assert_eq!(titles(&report), ["How far texts match", "Sizes"]);
    }
}
