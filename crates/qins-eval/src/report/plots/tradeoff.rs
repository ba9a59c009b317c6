//! Size against fidelity: divergence and matching prefix by bits per weight.

use maud::Markup;

use super::{
    super::{
        Candidate, Computation, Report, Role,
        format::{bits, estimated, figure, interval},
    },
    Plot, SIZE,
    axis::Axis,
    candidates,
    chart::{Chart, Point, Series, Shape},
    finite, predictions,
};
use crate::estimate::Estimate;

/// Bits per weight of one candidate, and a metric.
struct Dot {
    name: String,
    look: String,
    control: bool,
    bits: f64,
    value: f64,
    range: [f64; 2],
    tip: String,
}

pub(super) fn plot(report: &Report) -> Option<Plot> {
    let kl = |c: &Candidate| predictions(c).and_then(|teacher_forced| teacher_forced.mean_kl);
    let mut divergences = dots(report, kl, |name, e| format!("{name}: mean KL divergence {}", estimated(Some(e))));
    let matching = |c: &Candidate| c.figures.greedy.as_ref().and_then(|run| run.median_match_length);
    let tip = |name: &str, e| {
        format!("{name}: median matching prefix {}", interval(Some(e), |tokens| format!("{tokens:.0}")))
    };
    let prefixes = dots(report, matching, tip);

    // A control may lie off the scale of all others: it is then named, not drawn.
    let noise = noise(report, kl);
    let all = judged(&divergences).map(|dot| dot.value).chain(noise.iter().map(|level| level.value));
    let y = Axis::decades("mean KL divergence (nats)", all.collect::<Vec<_>>());
    let off = |dot: &Dot| dot.control && y.as_ref().is_some_and(|y| y.place(dot.value).is_none());
    let out: Vec<String> = divergences
        .iter()
        .filter(|dot| off(dot))
        .map(|dot| format!("{} (mean KL divergence {})", dot.name, figure(dot.value)))
        .collect();
    divergences.retain(|dot| !off(dot));
    let top = prefixes.iter().map(|dot| dot.value).fold(0.0, f64::max);
    let drawings = [
        y.and_then(|y| chart("mean KL divergence against bits per weight", y, &divergences, &noise, |value| value)),
        Axis::linear("median matching prefix, tokens", [0.0, top])
            .and_then(|y| chart("median matching prefix against bits per weight", y, &prefixes, &[], |value| -value)),
    ];
    let mut reading = "Each dot is a variant, its vertical bar the 95 % interval. Further left is smaller; lower KL divergence, or a \
                       longer matching prefix, is closer to the baseline. The line is the Pareto front."
        .to_owned();
    if !noise.is_empty() {
        reading += " Below the dashed line, encoding the weights changes less than bf16 arithmetic does.";
    }
    if !out.is_empty() {
        reading += &format!(" Off the scale and not drawn: {}.", out.join(", "));
    }
    Some(Plot { title: "Size against fidelity", reading, drawings: drawings.into_iter().flatten().collect() })
}

fn judged(dots: &[Dot]) -> impl Iterator<Item = &Dot> {
    dots.iter().filter(|dot| !dot.control)
}

fn dots(
    report: &Report,
    of: impl Fn(&Candidate) -> Option<Estimate>,
    tip: impl Fn(&str, Estimate) -> String,
) -> Vec<Dot> {
    let dot = |(c, look, name): (&Candidate, String, String)| {
        let bits_per_weight = c.bits_per_weight.filter(|bits| bits.is_finite() && *bits > 0.0)?;
        let estimate = of(c)?;
        let (value, range) = finite(Some(estimate))?;
        let tip = format!("{}, {} bpw", tip(&name, estimate), bits(Some(bits_per_weight)));
        Some(Dot { name, look, control: c.role == Role::Control, bits: bits_per_weight, value, range, tip })
    };
    candidates(report).into_iter().filter_map(dot).collect()
}

/// The divergence that other arithmetic causes: a level to compare encodings with.
struct Level {
    name: String,
    look: String,
    value: f64,
}

fn noise(report: &Report, of: impl Fn(&Candidate) -> Option<Estimate>) -> Vec<Level> {
    let all = candidates(report).into_iter().filter(|(c, ..)| c.settings.computation == Some(Computation::Bf16));
    let level = |(c, look, name): (&Candidate, String, String)| {
        let (value, _) = finite(of(c))?;
        Some(Level { name, look, value })
    };
    all.filter_map(level).collect()
}

/// `None` with fewer than two candidates. A smaller `cost` of the metric is better.
fn chart(
    title: &str,
    y: Axis,
    dots: &[Dot],
    levels: &[Level],
    cost: impl Fn(f64) -> f64,
) -> Option<(Option<String>, Markup)> {
    let bits = || dots.iter().map(|dot| dot.bits);
    if judged(dots).count() < 2 {
        return None;
    }
    let (low, high) = bits().fold((f64::INFINITY, 0.0), |(low, high), bits| (bits.min(low), bits.max(high)));
    let axis = "bits per weight (bpw)";
    let x = if high > 4.0 * low { Axis::octaves(axis, bits()) } else { Axis::linear(axis, bits()) }?;
    let point = |dot: &Dot, range| Point { x: dot.bits, y: dot.value, range, tip: dot.tip.clone() };
    let front = front(dots, cost).into_iter().map(|dot| point(dot, None)).collect();
    let front =
        Series { name: "Pareto front".to_owned(), look: "front".to_owned(), shape: Shape::Plain, points: front };
    let series = dots.iter().map(|dot| Series {
        name: dot.name.clone(),
        look: dot.look.clone(),
        shape: Shape::Dots,
        points: vec![point(dot, Some(dot.range))],
    });
    let levels = levels.iter().map(|level| Series {
        name: level.name.clone(),
        look: level.look.clone(),
        shape: Shape::Steps,
        points: [low, high].map(|x| Point { x, y: level.value, range: None, tip: level.name.clone() }).into(),
    });
    let series = [front].into_iter().chain(levels).chain(series).collect();
    let chart = Chart { title: title.to_owned(), size: SIZE, x, y, series };
    Some((None, chart.draw()))
}

/// The Pareto front of the judged dots, from the fewest bits on.
fn front(dots: &[Dot], cost: impl Fn(f64) -> f64) -> Vec<&Dot> {
    let mut sorted: Vec<&Dot> = judged(dots).collect();
    sorted.sort_by(|a, b| a.bits.total_cmp(&b.bits).then(cost(a.value).total_cmp(&cost(b.value))));
    let mut best = f64::INFINITY;
    sorted.retain(|dot| {
        let better = cost(dot.value) < best;
        best = if better { cost(dot.value) } else { best };
        better
    });
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn front_is_the_pareto_front_of_judged_dots() {
        let dot = |name: &str, bits, value| Dot {
            name: name.to_owned(),
            look: String::new(),
            control: name == "control",
            bits,
            value,
            range: [value; 2],
            tip: String::new(),
        };
        let dots = [
            dot("b", 8.0, 0.1),
            dot("worse", 8.5, 0.2),
            dot("a", 4.0, 0.3),
            dot("c", 9.0, 0.0),
            dot("control", 1.0, 0.0),
        ];
        let names = |cost: fn(f64) -> f64| front(&dots, cost).iter().map(|dot| dot.name.clone()).collect::<String>();
        assert_eq!(names(|value| value), "abc");
        assert_eq!(names(|value| -value), "a");
    }
}
