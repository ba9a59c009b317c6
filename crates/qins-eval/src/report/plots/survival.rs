//! Survival curves: the share of texts whose first n tokens match.

use super::{
    super::{Candidate, FreeRun, Report, Text},
    Plot, SIZE,
    axis::Axis,
    candidates,
    chart::{Chart, Point, Series, Shape},
};

pub(super) fn plot(report: &Report) -> Option<Plot> {
    let greedy = curves(report, "greedy", &report.baseline.texts, |c| c.figures.greedy.as_ref());
    let sampled = curves(report, "sampled", &report.baseline.sampled, |c| c.figures.sampled.as_ref());
    Some(Plot {
        title: "Matching texts by length",
        reading:
            "The share of texts whose first n tokens equal the baseline's (Kaplan–Meier estimate): a line that stays at \
                  the top never diverges. Dashed grey lines differ from the baseline in arithmetic only."
                .to_owned(),
        drawings: [greedy, sampled].into_iter().flatten().collect(),
    })
}

fn curves(
    report: &Report,
    title: &str,
    texts: &[Text],
    of: impl Fn(&Candidate) -> Option<&FreeRun>,
) -> Option<(Option<String>, maud::Markup)> {
    let longest = texts.iter().map(|text| text.generated_ids.len()).max().filter(|n| *n > 0)? as f64;
    let series = candidates(report).into_iter().filter_map(|(c, look, name)| {
        let point = |x: f64, y: f64| Point { x, y: 100.0 * y, range: None, tip: String::new() };
        let curve = &of(c)?.survival;
        let last = curve.last().map_or(1.0, |step| step.share);
        let steps = curve.iter().map(|step| point(step.tokens as f64, step.share));
        let points = [point(0.0, 1.0)].into_iter().chain(steps).chain([point(longest, last)]).collect();
        Some(Series { name, look, shape: Shape::Steps, points })
    });
    let series: Vec<Series> = series.collect();
    if series.is_empty() {
        return None;
    }
    let chart = Chart {
        title: format!("matching texts, {title}"),
        size: SIZE,
        x: Axis::tight("tokens", [0.0, longest])?,
        y: Axis::linear("matching texts, %", [0.0, 100.0])?,
        series,
    };
    Some((Some(title.to_owned()), chart.draw()))
}
