//! Sensitivity: KL divergence when only one part is encoded, by block and by role.

use super::{
    super::{
        Report, Sensitivity,
        format::{estimated, percent},
    },
    Plot, SIZE,
    axis::Axis,
    bars::{self, Bar},
    candidates,
    chart::{Chart, Point, Series, Shape},
    colour, finite,
};

pub(super) fn by_block(report: &Report) -> Option<Plot> {
    let schemes = schemes(report);
    let series = schemes.iter().enumerate().map(|(i, scheme)| {
        let mut points: Vec<Point> = parts(report, scheme).filter_map(point).collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        Series { name: (*scheme).to_owned(), look: look(report, scheme, i), shape: Shape::Line, points }
    });
    let series: Vec<Series> = series.filter(|s| !s.points.is_empty()).collect();
    let points = || series.iter().flat_map(|s| &s.points);
    let x = Axis::tight("block", points().map(|p| p.x).collect::<Vec<_>>())?;
    let y = Axis::decades("mean KL divergence (nats)", points().map(|p| p.y).collect::<Vec<_>>())?;
    let chart = Chart { title: "mean KL divergence when one block is encoded".to_owned(), size: SIZE, x, y, series };
    Some(Plot {
        title: "Sensitivity by block",
        reading:
            "Mean KL divergence with its 95 % interval when this block alone is encoded and all others are plain: the \
                  highest dots are the blocks that need more bits."
                .to_owned(),
        drawings: vec![(None, chart.draw())],
    })
}

pub(super) fn by_role(report: &Report) -> Option<Plot> {
    let drawings = schemes(report).into_iter().enumerate().filter_map(|(i, scheme)| {
        let look = look(report, scheme, i);
        let bar = |part: &Sensitivity| {
            let (value, range) = finite(part.mean_kl)?;
            let (name, text) = (part.part.clone(), estimated(part.mean_kl));
            Some(Bar { name, look: look.clone(), value, range: Some(range), text })
        };
        let bars: Vec<Bar> = parts(report, scheme).filter(|part| block(&part.part).is_none()).filter_map(bar).collect();
        Some((Some(scheme.to_owned()), bars::draw("mean KL divergence when one role is encoded", &bars)?))
    });
    Some(Plot {
        title: "Sensitivity by role",
        reading:
            "Mean KL divergence with its 95 % interval when the linears of this role are encoded in all blocks and all \
                  others are plain."
                .to_owned(),
        drawings: drawings.collect(),
    })
}

/// Every scheme, in the order of the report.
fn schemes(report: &Report) -> Vec<&str> {
    let mut schemes: Vec<&str> = Vec::new();
    for part in &report.sensitivity {
        if !schemes.contains(&&*part.scheme) {
            schemes.push(&part.scheme);
        }
    }
    schemes
}

/// The look of the candidate that a scheme is the name of, or the `i`th.
fn look(report: &Report, scheme: &str, i: usize) -> String {
    let named = candidates(report).into_iter().find(|(c, ..)| c.name == scheme);
    named.map_or_else(|| colour(i), |(_, look, _)| look)
}

fn parts<'a>(report: &'a Report, scheme: &str) -> impl Iterator<Item = &'a Sensitivity> {
    report.sensitivity.iter().filter(move |part| part.scheme == scheme)
}

/// The number of `block 3`.
fn block(part: &str) -> Option<u32> {
    part.strip_prefix("block ")?.parse().ok()
}

fn point(part: &Sensitivity) -> Option<Point> {
    let (y, range) = finite(part.mean_kl)?;
    let (kl, agreement) = (estimated(part.mean_kl), percent(part.top1_agreement, 2));
    let tip = format!("{} in {}: mean KL divergence {kl}, top-1 agreement {agreement}", part.part, part.scheme);
    Some(Point { x: f64::from(block(&part.part)?), y, range: Some(range), tip })
}
