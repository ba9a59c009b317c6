//! The plot: bars of decode and prefill speed, as a self-contained SVG.

use std::fmt::Write;

use super::measure::Run;
use crate::output::STYLE;

/// Width of a panel's bars, height of a row, and widths of names and values, in pixels.
const BARS: f64 = 260.0;
const ROW: f64 = 22.0;
const NAMES: f64 = 130.0;
const VALUES: f64 = 60.0;
const HEADING: f64 = 34.0;

/// A panel for each of the two speeds.
pub(crate) fn plot(runs: &[Run]) -> String {
    let speeds = [
        ("decode tok/s", runs.iter().map(|run| run.decode_tokens_per_second).collect::<Vec<_>>()),
        ("prefill tok/s (pp128)", runs.iter().map(|run| run.prefill_tokens_per_second).collect()),
    ];
    let panel = NAMES + BARS + VALUES;
    let (width, height) = (2.0 * panel, HEADING + ROW * runs.len() as f64 + 12.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <title>Decode and prefill speed</title>\n<style>{STYLE}\n</style>\n\
         <rect class=\"back\" width=\"100%\" height=\"100%\"/>\n"
    );
    for (i, (title, speeds)) in speeds.into_iter().enumerate() {
        let most = speeds.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let left = panel * i as f64 + NAMES;
        let _ = writeln!(svg, "<text x=\"{left}\" y=\"20\" font-weight=\"bold\">{title}</text>");
        for (j, (run, speed)) in runs.iter().zip(speeds).enumerate() {
            let (y, length) = (HEADING + ROW * j as f64, BARS * speed / most);
            let class = if run.is_peer() || ["f32", "bf16"].contains(&&run.variant[..]) { "others" } else { "ours" };
            let _ = writeln!(
                svg,
                "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>\
                 <rect class=\"{class}\" x=\"{left}\" y=\"{:.0}\" width=\"{length:.1}\" height=\"{:.0}\"/>\
                 <text x=\"{:.1}\" y=\"{:.0}\">{:.1}</text>",
                left - 6.0,
                y + 14.0,
                run.variant,
                y + 2.0,
                ROW - 6.0,
                left + length + 5.0,
                y + 14.0,
                speed
            );
        }
    }
    svg + "</svg>\n"
}
