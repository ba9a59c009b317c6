//! The distribution of the KL divergence over positions, a panel for each candidate.

use super::{
    super::{KL_BINS, Report, Role, format::figure},
    Plot, SMALL,
    axis::Axis,
    candidates,
    chart::{Chart, Point, Series, Shape},
    predictions,
};

/// Left end of the first bin, in powers of ten: bins are half a power wide.
const FIRST: f64 = -8.5;

pub(super) fn plot(report: &Report) -> Option<Plot> {
    let mut same = Vec::new();
    let mut shown = Vec::new();
    for (candidate, look, name) in candidates(report) {
        let Some(teacher_forced) = predictions(candidate) else { continue };
        let all: usize = teacher_forced.kl_histogram.iter().sum();
        let control = candidate.role == Role::Control;
        let shares: Vec<f64> =
            teacher_forced.kl_histogram.iter().map(|n| 100.0 * *n as f64 / all.max(1) as f64).collect();
        match shares.first() {
            Some(first) if *first >= 100.0 => same.push(name),
            Some(_) if all > 0 => shown.push((name, look, control, shares, teacher_forced.mean_kl.map(|e| e.value))),
            _ => {}
        }
    }
    let high = |shares: &[f64]| shares.iter().copied().fold(0.0, f64::max);
    // One scale for all; a control that would flatten the others has its own.
    let judged = shown.iter().filter(|(_, _, control, ..)| !control);
    let shared = judged.map(|(.., shares, _)| high(shares)).fold(0.0, f64::max);
    let drawings = shown.into_iter().filter_map(|(name, look, _, shares, mean)| {
        let highest = shared.max(high(&shares));
        let point = |x: f64, y: f64| Point { x, y, range: None, tip: String::new() };
        let edges = (0..).map(|bin| FIRST + 0.5 * f64::from(bin));
        let steps = edges.zip(&shares).map(|(x, share)| point(x, *share));
        let end = point(FIRST + 0.5 * KL_BINS as f64, 0.0);
        let points = [point(FIRST, 0.0)].into_iter().chain(steps).chain([end]).collect();
        let mut series = vec![Series { name: name.clone(), look: look.clone(), shape: Shape::Filled, points }];
        if let Some(mean) = mean.filter(|mean| *mean > 0.0 && mean.is_finite()) {
            let x = mean.log10().clamp(FIRST, FIRST + 0.5 * KL_BINS as f64);
            let points = [0.0, highest].map(|y| point(x, y)).into();
            let name = format!("mean {}", figure(mean));
            series.push(Series { name, look: "mean".to_owned(), shape: Shape::Plain, points });
        }
        let ticks = [(-8.0, "1e-8"), (-6.0, "1e-6"), (-4.0, "1e-4"), (-2.0, "0.01"), (0.0, "1")];
        let x = Axis::tight("KL divergence (nats)", [FIRST, FIRST + 0.5 * KL_BINS as f64])?;
        let x = x.with_ticks(ticks.map(|(at, text)| (at, text.to_owned())).into());
        let y = Axis::linear("positions, %", [0.0, highest])?;
        let chart = Chart { title: format!("positions by KL divergence, {name}"), size: SMALL, x, y, series };
        Some((Some(name), chart.draw()))
    });
    let mut reading =
        "The share of positions by KL divergence, in bins of half a decade; the first bin holds all below 1e-8, the \
                       last all from 1 on. The vertical line is the mean, which a few positions at the right dominate."
            .to_owned();
    if !same.is_empty() {
        reading += &format!(" Not shown, as no position reaches 1e-8: {}.", same.join(", "));
    }
    Some(Plot { title: "Distribution of KL divergence", reading, drawings: drawings.collect() })
}
