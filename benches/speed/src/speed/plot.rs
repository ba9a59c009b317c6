//! The plot: bars of decode and prefill speed, as a self-contained SVG.

use std::fmt::Write;

use super::summary::{Spread, Summary};
use crate::output::STYLE;

/// Width of a panel's bars, height of a row, and widths of names and values, in pixels.
const BARS: f64 = 260.0;
const ROW: f64 = 22.0;
const NAMES: f64 = 130.0;
const VALUES: f64 = 60.0;
const HEADING: f64 = 34.0;

/// A panel for each of the two speeds at each prompt length; a line from the least to the most measured.
pub(crate) fn plot(all: &[Summary]) -> String {
    let mut prompts: Vec<u32> = all.iter().map(|summary| summary.prompt).collect();
    prompts.sort_unstable();
    prompts.dedup();
    let panel = NAMES + BARS + VALUES;
    let of = |prompt: u32| all.iter().filter(move |summary| summary.prompt == prompt);
    let rows = prompts.iter().map(|prompt| of(*prompt).count()).max().unwrap_or(0);
    let (tall, width) = (HEADING + ROW * rows as f64 + 12.0, 2.0 * panel);
    let height = tall * prompts.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <title>Decode and prefill speed</title>\n<style>{STYLE}\n</style>\n\
         <rect class=\"back\" width=\"100%\" height=\"100%\"/>\n"
    );
    for (i, prompt) in prompts.into_iter().enumerate() {
        let top = tall * i as f64;
        let own: Vec<&Summary> = of(prompt).collect();
        draw(&mut svg, [0.0, top], &format!("decode tok/s after {prompt} tokens"), &own, Summary::decode);
        draw(&mut svg, [panel, top], &format!("prefill tok/s of {prompt} tokens"), &own, Summary::prefill);
    }
    svg + "</svg>\n"
}

fn draw(svg: &mut String, [left, top]: [f64; 2], title: &str, all: &[&Summary], speed: fn(&Summary) -> Spread) {
    let most = all.iter().map(|summary| speed(summary).max).fold(f64::MIN_POSITIVE, f64::max);
    let left = left + NAMES;
    let _ = writeln!(svg, "<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{title}</text>", top + 20.0);
    for (j, summary) in all.iter().enumerate() {
        let Spread { min, median, max } = speed(summary);
        let (y, length) = (top + HEADING + ROW * j as f64, |speed: f64| BARS * speed / most);
        let class = if summary.ours { "ours" } else { "others" };
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}\" x=\"{left}\" y=\"{:.0}\" width=\"{:.1}\" height=\"{:.0}\"/>\
             <path class=\"grid\" d=\"M{:.1} {:.1}H{:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.0}\">{median:.1}</text>",
            left - 6.0,
            y + 14.0,
            summary.variant,
            y + 2.0,
            length(median),
            ROW - 6.0,
            left + length(min),
            y + ROW / 2.0 - 1.0,
            left + length(max),
            left + length(max) + 5.0,
            y + 14.0,
        );
    }
}
