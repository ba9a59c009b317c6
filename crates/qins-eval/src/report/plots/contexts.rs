//! KL divergence by context length.

use super::{
    super::{
        Report,
        format::{estimated, thousands},
    },
    Plot, SIZE,
    axis::Axis,
    candidates,
    chart::{Chart, Point, Series, Shape},
    finite,
};

pub(super) fn plot(report: &Report) -> Option<Plot> {
    let series = candidates(report).into_iter().filter_map(|(c, look, name)| {
        let points = c.figures.contexts.iter().filter_map(|context| {
            let (y, range) = finite(context.teacher_forced.mean_kl)?;
            let read = thousands(context.tokens as u64);
            let tip = format!(
                "{name}, {read} context tokens: mean KL divergence {}",
                estimated(context.teacher_forced.mean_kl)
            );
            Some(Point { x: context.tokens as f64, y, range: Some(range), tip })
        });
        let points: Vec<Point> = points.collect();
        (!points.is_empty()).then_some(Series { name, look, shape: Shape::Line, points })
    });
    let series: Vec<Series> = series.collect();
    let points = || series.iter().flat_map(|s| &s.points);
    let x = Axis::octaves("context tokens", points().map(|p| p.x))?;
    let y = Axis::decades("mean KL divergence (nats)", points().map(|p| p.y).collect::<Vec<_>>())?;
    let chart = Chart { title: "mean KL divergence by context length".to_owned(), size: SIZE, x, y, series };
    Some(Plot {
        title: "Long contexts",
        reading:
            "Mean KL divergence at the end of contexts of this length, with 95 % intervals: a line that rises to the right \
                  diverges more the longer the context is."
                .to_owned(),
        drawings: vec![(None, chart.draw())],
    })
}
