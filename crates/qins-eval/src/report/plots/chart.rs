//! A chart: axes, lines or dots, and their names, as SVG elements that a style sheet colours.

use maud::{Markup, html};

use super::{
    axis::Axis,
    labels::{self, HEIGHT},
};

/// Margins: tick labels at the left; the vertical axis' title above; tick labels and title of the horizontal axis below.
const LEFT: f64 = 52.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 42.0;

/// A value with its interval, at `x`, and its tooltip.
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) range: Option<[f64; 2]>,
    pub(super) tip: String,
}

/// How a series is drawn.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Shape {
    /// Dots joined by a line.
    Line,
    /// A line without dots.
    Plain,
    /// A step function.
    Steps,
    /// A step function, filled down to the axis.
    Filled,
    /// Dots, each with its series' name beside it.
    Dots,
}

/// A named series of points.
pub(super) struct Series {
    pub(super) name: String,
    /// Its CSS classes.
    pub(super) look: String,
    pub(super) shape: Shape,
    pub(super) points: Vec<Point>,
}

/// A chart.
pub(super) struct Chart {
    /// A description, for screen readers.
    pub(super) title: String,
    /// Width and height.
    pub(super) size: [f64; 2],
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) series: Vec<Series>,
}

impl Chart {
    pub(super) fn draw(&self) -> Markup {
        let lines = || self.series.iter().filter(|s| matches!(s.shape, Shape::Line | Shape::Steps));
        let longest = lines().map(|s| labels::width(&s.name)).fold(0.0, f64::max);
        let margin = if longest > 0.0 { longest + 24.0 } else { 14.0 };
        let height = self.size[1].max(TOP + BOTTOM + HEIGHT * lines().count() as f64);
        let plot = Plot { chart: self, right: (self.size[0] - margin).max(LEFT + 80.0), bottom: height - BOTTOM };
        let wide = plot.right + margin;
        html! {
            svg viewBox=(format!("0 0 {wide:.0} {height:.0}")) role="img" aria-label=(self.title) {
                (plot.axes())
                @for series in &self.series { (plot.series(series)) }
                (plot.names(&lines().collect::<Vec<_>>()))
                (plot.points_names())
            }
        }
    }
}

/// A chart with its margins.
struct Plot<'a> {
    chart: &'a Chart,
    right: f64,
    bottom: f64,
}

impl Plot<'_> {
    fn x(&self, at: f64) -> f64 {
        LEFT + (self.right - LEFT) * at
    }

    fn y(&self, at: f64) -> f64 {
        self.bottom - (self.bottom - TOP) * at
    }

    fn at(&self, point: &Point) -> Option<[f64; 2]> {
        Some([self.x(self.chart.x.place(point.x)?), self.y(self.chart.y.place(point.y)?)])
    }

    fn axes(&self) -> Markup {
        let Chart { x, y, .. } = self.chart;
        let (right, bottom) = (self.right, self.bottom);
        html! {
            @for (at, text) in y.ticks.iter().filter_map(|(v, text)| Some((self.y(y.place(*v)?), text))) {
                path.grid d=(format!("M{LEFT} {at:.1}H{right:.1}")) {}
                text.end x=(LEFT - 6.0) y=(px(at + 4.0)) { (text) }
            }
            @for (at, text) in x.ticks.iter().filter_map(|(v, text)| Some((self.x(x.place(*v)?), text))) {
                path.tick d=(format!("M{at:.1} {bottom}v4")) {}
                text.middle x=(px(at)) y=(px(bottom + 17.0)) { (text) }
            }
            path.axis d=(format!("M{LEFT} {bottom}H{right:.1}")) {}
            text.middle x=(px((LEFT + right) / 2.0)) y=(px(bottom + 36.0)) { (x.title) }
            text x="4" y="13" { (y.title) }
        }
    }

    fn series(&self, series: &Series) -> Markup {
        let found: Vec<(&Point, [f64; 2])> = series.points.iter().filter_map(|p| Some((p, self.at(p)?))).collect();
        let steps = matches!(series.shape, Shape::Steps | Shape::Filled);
        let mut line = String::new();
        for (i, (_, [x, y])) in found.iter().enumerate() {
            line += &match (i, steps) {
                (0, _) => format!("M{x:.1} {y:.1}"),
                (_, true) => format!("H{x:.1}V{y:.1}"),
                (_, false) => format!("L{x:.1} {y:.1}"),
            };
        }
        if let (Shape::Filled, Some((_, [first, _])), Some((_, [last, _]))) =
            (series.shape, found.first(), found.last())
        {
            line += &format!("H{last:.1}V{:.1}H{first:.1}Z", self.bottom);
        }
        let shape = if series.shape == Shape::Filled { "area" } else { "line" };
        let dotted = matches!(series.shape, Shape::Line | Shape::Dots);
        html! {
            g class=(series.look) {
                @if series.shape != Shape::Dots && !found.is_empty() {
                    path class=(shape) d=(line) { title { (series.name) } }
                }
                @for (point, [x, y]) in found.iter().filter(|_| dotted) {
                    @if let Some([low, high]) = point.range {
                        @let ends = [low, high].map(|end| self.y(self.chart.y.clamped(end)));
                        path.range d=(format!("M{x:.1} {:.1}V{:.1}", ends[0], ends[1])) {}
                    }
                    circle.dot cx=(px(*x)) cy=(px(*y)) r=(if series.shape == Shape::Dots { 4.5 } else { 2.5 }) {
                        title { (point.tip) }
                    }
                }
            }
        }
    }

    /// The names of `lines` at their right ends, each with a leader line.
    fn names(&self, lines: &[&Series]) -> Markup {
        let ends: Vec<_> =
            lines.iter().filter_map(|s| Some((s, s.points.iter().rev().find_map(|p| self.at(p))?))).collect();
        let wanted: Vec<f64> = ends.iter().map(|(_, [_, y])| *y).collect();
        let places = labels::spread(&wanted, TOP, self.bottom);
        let right = self.right;
        html! {
            @for ((series, [x, y]), place) in ends.iter().zip(places) {
                g class=(series.look) {
                    path.tie d=(format!("M{x:.1} {y:.1}H{right:.1}L{:.1} {place:.1}h5", right + 12.0)) {}
                    text.name x=(px(right + 20.0)) y=(px(place + 4.0)) { (series.name) }
                }
            }
        }
    }

    /// The names of dots beside them.
    fn points_names(&self) -> Markup {
        let dots = self.chart.series.iter().filter(|s| s.shape == Shape::Dots);
        let found: Vec<_> = dots.flat_map(|s| s.points.iter().filter_map(move |p| Some((s, p, self.at(p)?)))).collect();
        let points: Vec<([f64; 2], &str)> = found.iter().map(|(s, _, at)| (*at, &*s.name)).collect();
        let ranges = found.iter().filter_map(|(_, p, [x, _])| {
            let [low, high] = p.range?.map(|end| self.y(self.chart.y.clamped(end)));
            Some([x - 2.0, high, x + 2.0, low])
        });
        let places = labels::beside(&points, ranges.collect(), [LEFT, TOP - 12.0, self.right + 8.0, self.bottom]);
        html! {
            @for ((series, ..), [x, y]) in found.iter().zip(places) {
                g class=(series.look) { text.name.halo x=(px(x)) y=(px(y)) { (series.name) } }
            }
        }
    }
}

/// A coordinate in pixels, to a tenth.
pub(super) fn px(x: f64) -> String {
    format!("{x:.1}")
}
