//! The plot: SQNR against bits per weight, one panel for each data set, as a self-contained SVG.

use std::fmt::Write;

use crate::measure::{Kind, Row};

/// A panel's plot area, the margins around it, and the height of its heading, in pixels.
const AREA: [f64; 2] = [340.0, 460.0];
const MARGIN: [f64; 2] = [52.0, 46.0];
const HEADING: f64 = 36.0;
/// Size of the labels, and the width of one of their letters, roughly.
const FONT: f64 = 11.0;
const LETTER: f64 = 6.5;

/// Colours follow the reader's light or dark mode; renderers without modes use the light one.
const STYLE: &str = "
.back { fill: #fff } text { fill: #1f2328 } .grid { stroke: #d5d9de } .bound { stroke: #6b7280; stroke-dasharray: 4 4 }
.others { fill: none; stroke: #6b7280; stroke-width: 1.5 } .ours { fill: #0b62d6 } text.ours { font-weight: bold }
.coded { fill: none; stroke: #0b62d6 }
.label { paint-order: stroke; stroke: #fff; stroke-width: 3 }
@media (prefers-color-scheme: dark) {
  .back { fill: #0d1117 } text { fill: #e6edf3 } .grid { stroke: #30363d } .bound { stroke: #9aa4af }
  .others { stroke: #9aa4af } .ours { fill: #58a6ff } .coded { stroke: #58a6ff } .label { stroke: #0d1117 }
}";

/// The vertical axis, over bits per weight.
pub(crate) struct Axis {
    title: &'static str,
    label: &'static str,
    /// The horizontal one.
    bits: &'static str,
    step: i32,
    tick: fn(i32) -> String,
    /// Whether to draw the rate–distortion bound of independent Gaussian weights.
    bound: bool,
}

/// SQNR.
pub(crate) const DECIBELS: Axis = Axis {
    title: "Signal-to-quantisation-noise ratio against bits per weight",
    label: "SQNR, dB",
    bits: "bits per weight (bpw)",
    step: 5,
    tick: |tick| tick.to_string(),
    bound: true,
};

/// Mean KL divergence of a model's predictions, as its decimal logarithm.
pub(crate) const KL: Axis = Axis {
    title: "Mean KL divergence against bits per weight",
    label: "KL, nats",
    bits: "bits per weight (bpw)",
    step: 1,
    tick: |tick| format!("1e{tick}"),
    bound: false,
};

/// The same, of forms of the KV cache.
pub(crate) const CACHE: Axis =
    Axis { title: "Mean KL divergence against bits per number of the KV cache", bits: "bits per number", ..KL };

/// The ends of an axis in steps that contains every value.
fn span(values: impl Iterator<Item = f64> + Clone, step: f64) -> [f64; 2] {
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.fold(f64::NEG_INFINITY, f64::max);
    [(low / step - 0.1).floor() * step, (high / step + 0.1).ceil() * step]
}

/// The plot of `rows` on the data sets `names`, without exact ones.
pub(crate) fn plot(axis: &Axis, names: &[&str], rows: &[Row]) -> String {
    let points = rows.iter().flat_map(|row| &row.points).filter_map(|p| Some((p.bits, p.decibels?)));
    let bits = span(points.clone().map(|p| p.0), 1.0);
    let uncalibrated = rows.iter().flat_map(|row| &row.points).filter_map(|p| p.uncalibrated);
    let values = span(points.map(|p| p.1).chain(uncalibrated), f64::from(axis.step));
    let panel = [AREA[0] + MARGIN[0] + 12.0, AREA[1] + MARGIN[1] + HEADING];
    let (width, height) = (panel[0] * names.len() as f64, panel[1]);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"system-ui, sans-serif\" font-size=\"{FONT}\">\n\
         <title>{}</title>\n<style>{STYLE}\n</style>\n\
         <rect class=\"back\" width=\"100%\" height=\"100%\"/>\n",
        axis.title
    );
    for (i, name) in names.iter().enumerate() {
        let mut dots: Vec<Dot> = rows.iter().filter_map(|row| dot(row, i, bits, values)).collect();
        dots.sort_by(|a, b| a.at[1].total_cmp(&b.at[1]));
        svg += &format!("<g transform=\"translate({}, {HEADING})\">\n", panel[0] * i as f64 + MARGIN[0]);
        axes(&mut svg, axis, name, bits, values);
        if dots.iter().any(|dot| dot.uncalibrated.is_some()) {
            let x = AREA[0] - 8.0;
            let _ = writeln!(svg, "<text x=\"{x}\" y=\"16\" text-anchor=\"end\">⊤ without calibration</text>");
        }
        lines(&mut svg, &dots);
        labelled(&mut svg, &dots);
        svg += "</g>\n";
    }
    svg + "</svg>\n"
}

/// A point of the plot, in pixels.
struct Dot<'a> {
    row: &'a Row,
    at: [f64; 2],
    /// Its position when entropy-coded.
    coded: Option<f64>,
    /// Its height without a calibration.
    uncalibrated: Option<f64>,
}

fn dot<'a>(row: &'a Row, set: usize, bits: [f64; 2], decibels: [f64; 2]) -> Option<Dot<'a>> {
    let point = row.points.get(set)?;
    let at = [x(point.bits, bits), y(point.decibels?, decibels)];
    Some(Dot {
        row,
        at,
        coded: point.coded.map(|coded| x(coded, bits)),
        uncalibrated: point.uncalibrated.map(|value| y(value, decibels)),
    })
}

fn x(bits: f64, [low, high]: [f64; 2]) -> f64 {
    AREA[0] * (bits - low) / (high - low)
}

fn y(decibels: f64, [low, high]: [f64; 2]) -> f64 {
    AREA[1] * (high - decibels) / (high - low)
}

fn axes(svg: &mut String, axis: &Axis, name: &str, bits: [f64; 2], values: [f64; 2]) {
    let [right, bottom] = AREA;
    *svg += &format!("<text x=\"{}\" y=\"-14\" font-size=\"14\" text-anchor=\"middle\">{name}</text>\n", right / 2.0);
    for tick in (bits[0] as i32)..=(bits[1] as i32) {
        let x = x(f64::from(tick), bits);
        let _ = writeln!(svg, "<line class=\"grid\" x1=\"{x:.1}\" y1=\"0\" x2=\"{x:.1}\" y2=\"{bottom}\"/>");
        let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}</text>", bottom + 16.0);
    }
    for tick in ((values[0] as i32)..=(values[1] as i32)).step_by(axis.step as usize) {
        let (y, tick) = (y(f64::from(tick), values), (axis.tick)(tick));
        let _ = writeln!(svg, "<line class=\"grid\" x1=\"0\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>");
        let _ = writeln!(svg, "<text x=\"-6\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>", y + 4.0);
    }
    let middle = right / 2.0;
    let _ = writeln!(svg, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>", bottom + 34.0, axis.bits);
    let _ = writeln!(svg, "<text x=\"-6\" y=\"-14\" text-anchor=\"end\">{}</text>", axis.label);
    if !axis.bound {
        return;
    }
    // The rate–distortion bound of independent Gaussian weights: 20·log₁₀2 dB per bit.
    let per_bit = 20.0 * 2.0_f64.log10();
    let end = |b: f64| [x(b, bits), y(per_bit * b, values)];
    let ([x1, y1], [x2, y2]) = (end(bits[0].max(values[0] / per_bit)), end(bits[1].min(values[1] / per_bit)));
    let _ = writeln!(svg, "<line class=\"bound\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>");
    let _ =
        writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">6.02 dB per bit</text>", x2 - 16.0, y2 + 10.0);
}

/// A line through the rates, and one from each dot to its entropy-coded position, and to where it is without a calibration.
fn lines(svg: &mut String, dots: &[Dot]) {
    let rates = dots.iter().filter(|dot| dot.row.kind == Kind::Rate);
    let through: String = rates.map(|Dot { at: [x, y], .. }| format!(" {x:.1},{y:.1}")).collect();
    let _ = writeln!(svg, "<polyline class=\"coded\" points=\"{through}\"/>");
    for Dot { row, at: [x, y], coded, uncalibrated } in dots {
        if let Some(other) = uncalibrated {
            let class = if row.kind == Kind::Other { "others" } else { "coded" };
            let _ = writeln!(svg, "<path class=\"{class}\" d=\"M{x:.1} {y:.1}V{other:.1}m-3 0h6\"/>");
        }
        if let Some(coded) = coded.filter(|coded| coded != x) {
            let _ = writeln!(svg, "<path class=\"coded\" d=\"M{x:.1} {y:.1}H{coded:.1}m0 -3v6\"/>");
        }
    }
}

/// Dots and labels from the top, each label on the first side of its dot without overlap. The rates share one label.
fn labelled(svg: &mut String, dots: &[Dot]) {
    let around = |Dot { at: [x, y], coded, uncalibrated, .. }: &Dot| {
        let other = uncalibrated.unwrap_or(*y);
        [coded.unwrap_or(*x).min(x - 4.0), other.min(y - 4.0), x + 4.0, other.max(y + 4.0)]
    };
    let mut taken: Vec<[f64; 4]> = dots.iter().map(around).collect();
    let first = dots.iter().position(|dot| dot.row.kind == Kind::Rate);
    for (i, Dot { row, at: [x, y], .. }) in dots.iter().enumerate() {
        let class = if row.kind == Kind::Other { "others" } else { "ours" };
        let (radius, name) = match row.kind {
            Kind::Rate => (2.0, if Some(i) == first { "rate" } else { "" }),
            _ => (3.5, &*row.name),
        };
        let _ = writeln!(svg, "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"/>");
        if name.is_empty() {
            continue;
        }
        let width = LETTER * name.len() as f64;
        let side = |anchor, before: f64, dx, dy| {
            let [x, y] = [x + dx, y + dy];
            (anchor, [x, y], [x - before * width, y - 0.8 * FONT, x + (1.0 - before) * width, y + 1.0])
        };
        let sides = [
            side("start", 0.0, 7.0, 4.0),
            side("start", 0.0, 6.0, -5.0),
            side("start", 0.0, 6.0, 14.0),
            side("middle", 0.5, 0.0, -8.0),
            side("middle", 0.5, 0.0, 17.0),
            side("end", 1.0, -7.0, 4.0),
            side("end", 1.0, -6.0, -5.0),
            side("end", 1.0, -6.0, 14.0),
        ];
        let free = |(_, _, b): &&(_, _, [f64; 4])| {
            let apart = |t: &[f64; 4]| b[2] < t[0] || t[2] < b[0] || b[3] < t[1] || t[3] < b[1];
            b[0] >= 0.0 && b[2] <= AREA[0] && taken.iter().all(apart)
        };
        let (anchor, [x, y], area) = *sides.iter().find(free).unwrap_or(&sides[0]);
        let class = if row.kind == Kind::Other { "label" } else { "label ours" };
        let _ =
            writeln!(svg, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{name}</text>");
        taken.push(area);
    }
}

#[cfg(test)]
#[test]
fn every_inexact_point_is_drawn() {
    use crate::measure::Point;
    let point = |bits, decibels, coded| Point { bits, coded, decibels, uncalibrated: None };
    let row = |name: &str, kind, points| Row { name: name.to_owned(), kind, points };
    let rows = [
        row("a", Kind::Ours, vec![point(4.5, Some(22.0), Some(4.0)), point(4.6, Some(21.0), Some(4.1))]),
        row("b", Kind::Other, vec![point(8.0, Some(44.0), None), point(32.0, None, None)]),
        row("rate 6", Kind::Rate, vec![point(6.0, Some(35.0), Some(6.0)), point(6.0, Some(35.0), Some(6.0))]),
        row("rate 7", Kind::Rate, vec![point(7.0, Some(41.0), Some(7.0)), point(7.0, Some(41.0), Some(7.0))]),
    ];
    let svg = plot(&DECIBELS, &["first", "second"], &rows);
    let count = |text: &str| svg.matches(text).count();
    assert_eq!((count("<circle"), count("<circle class=\"ours\""), count(">b</text>")), (7, 6, 1));
    assert_eq!((count("<polyline"), count("<path"), count(">rate</text>")), (2, 2, 2));
    assert_eq!((count("<g "), count("</g>"), count("NaN"), count(">32</text>")), (2, 2, 0, 0));
}
