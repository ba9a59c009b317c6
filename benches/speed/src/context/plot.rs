//! The plot: three panels with logarithmic axes, a line for each KV cache scheme, as a self-contained SVG.

use super::{
    measure::Run,
    theory::{Fit, fits},
};
use crate::output::{COLOURS, STYLE};

/// A panel's area, the margin left of it and below it, and the height of its heading, in pixels.
const AREA: [f64; 2] = [250.0, 220.0];
const MARGIN: [f64; 2] = [58.0, 40.0];
const HEADING: f64 = 34.0;

/// A panel: a measured quantity, and its model.
struct Panel {
    title: &'static str,
    measured: fn(&Run) -> f64,
    theory: fn(&Fit<'_>, f64) -> f64,
}

const PANELS: [Panel; 3] = [
    Panel { title: "KV cache, MB", measured: |run| run.kv_bytes as f64 / 1e6, theory: |fit, n| fit.megabytes(n) },
    Panel { title: "prefill time, s", measured: Run::seconds, theory: |fit, n| fit.seconds(n) },
    Panel { title: "decode time per token, ms", measured: Run::milliseconds, theory: |fit, n| fit.milliseconds(n) },
];

/// Dots are measured, dashed lines are the fitted model.
pub(crate) fn plot(runs: &[Run]) -> String {
    let fits = fits(runs);
    let (panel, height) = (AREA[0] + MARGIN[0] + 96.0, HEADING + AREA[1] + MARGIN[1]);
    let width = panel * PANELS.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <title>Memory and time by context length</title>\n<style>{STYLE}\n</style>\n\
         <rect class=\"back\" width=\"100%\" height=\"100%\"/>\n"
    );
    for (i, each) in PANELS.iter().enumerate() {
        svg += &format!("<g transform=\"translate({}, {HEADING})\">\n", panel * i as f64 + MARGIN[0]);
        svg += &format!("<text x=\"0\" y=\"-14\" font-weight=\"bold\">{}</text>\n", each.title);
        svg += &lines(each, &fits);
        svg += "</g>\n";
    }
    svg + "</svg>\n"
}

/// Values on a logarithmic axis of so many pixels.
struct Axis {
    from: f64,
    to: f64,
    length: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64> + Clone, length: f64) -> Self {
        let positive = values.filter(|v| *v > 0.0);
        let from = positive.clone().fold(f64::INFINITY, f64::min);
        let to = positive.fold(0.0, f64::max);
        if from < to {
            Self { from, to, length }
        } else {
            Self { from: 0.5 * to.max(1e-9), to: 2.0 * to.max(1e-9), length }
        }
    }

    fn at(&self, value: f64) -> f64 {
        self.length * (value.max(self.from) / self.from).ln() / (self.to / self.from).ln()
    }

    /// Powers of two, or of ten, not nearer than 18 pixels to each other.
    fn ticks(&self, base: f64) -> Vec<f64> {
        let powers = (self.from.log(base).ceil() as i32)..=(self.to.log(base).floor() as i32);
        let powers: Vec<f64> = powers.map(|power| base.powi(power)).collect();
        if powers.len() < 2 { vec![self.from, self.to] } else { powers }
    }
}

fn lines(panel: &Panel, fits: &[Fit<'_>]) -> String {
    let runs = || fits.iter().flat_map(|fit| fit.runs.iter());
    let x = Axis::new(runs().map(|run| run.prompt_tokens as f64), AREA[0]);
    let y = Axis::new(runs().map(|run| (panel.measured)(run)), AREA[1]);
    let down = |value: f64| AREA[1] - y.at(value);
    let mut svg = String::new();
    for tick in y.ticks(2.0) {
        let at = down(tick);
        let label = if tick.fract() == 0.0 { format!("{tick:.0}") } else { format!("{tick:.2}") };
        svg += &format!(
            "<path class=\"grid\" d=\"M0 {at:.1}H{}\"/><text x=\"-6\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>\n",
            AREA[0],
            at + 4.0
        );
    }
    for tick in x.ticks(2.0) {
        let at = x.at(tick);
        svg += &format!(
            "<path class=\"grid\" d=\"M{at:.1} 0V{}\"/><text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{tick:.0}</text>\n",
            AREA[1],
            AREA[1] + 16.0
        );
    }
    svg += &format!(
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">context tokens</text>\n",
        AREA[0] / 2.0,
        AREA[1] + 33.0
    );
    for (i, fit) in fits.iter().enumerate() {
        let class = i % COLOURS;
        let steps = (0..=32).map(|step| x.from * (x.to / x.from).powf(f64::from(step) / 32.0));
        let theory: Vec<String> =
            steps.map(|n| format!("{:.1},{:.1}", x.at(n), down((panel.theory)(fit, n)))).collect();
        svg += &format!("<polyline class=\"c{class} theory\" points=\"{}\"/>\n", theory.join(" "));
        for run in &fit.runs {
            let (n, value) = (run.prompt_tokens, (panel.measured)(run));
            svg += &format!(
                "<circle class=\"c{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"><title>{}, {n} tokens: {value:.3}</title></circle>\n",
                x.at(n as f64),
                down(value),
                fit.name
            );
        }
    }
    svg + &names(panel, fits, down)
}

/// Names at the ends of lines, moved apart where they would touch.
fn names(panel: &Panel, fits: &[Fit<'_>], down: impl Fn(f64) -> f64) -> String {
    let end = |fit: &Fit<'_>| fit.runs.last().map_or(0.0, |run| down((panel.measured)(run)));
    let mut ends: Vec<(f64, usize)> = fits.iter().enumerate().map(|(i, fit)| (end(fit), i)).collect();
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut svg = String::new();
    let mut least = f64::NEG_INFINITY;
    for (at, i) in ends {
        let at = at.max(least);
        least = at + 13.0;
        svg += &format!(
            "<text class=\"c{}\" x=\"{}\" y=\"{:.1}\">{}</text>\n",
            i % COLOURS,
            AREA[0] + 8.0,
            at + 4.0,
            fits[i].name
        );
    }
    svg
}
