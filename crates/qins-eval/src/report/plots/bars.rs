//! Horizontal bars, one below the other, from 0.

use maud::{Markup, html};

use super::{chart::px, labels};

const ROW: f64 = 24.0;
const WIDTH: f64 = 520.0;

/// A bar.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) look: String,
    pub(super) value: f64,
    pub(super) range: Option<[f64; 2]>,
    /// The formatted value.
    pub(super) text: String,
}

/// Draws all `bars` on one scale; `None` when no value is positive.
pub(super) fn draw(title: &str, bars: &[Bar]) -> Option<Markup> {
    let highs = bars.iter().map(|bar| bar.range.map_or(bar.value, |[_, high]| high.max(bar.value)));
    let most = highs.filter(|v| v.is_finite()).fold(0.0, f64::max);
    let longest = |of: &dyn Fn(&Bar) -> &str| bars.iter().map(|bar| labels::width(of(bar))).fold(0.0, f64::max);
    let (left, right) = (longest(&|bar| &bar.name) + 10.0, longest(&|bar| &bar.text) + 10.0);
    let room = (WIDTH - left - right).max(120.0);
    let (wide, high) = (left + room + right, ROW * bars.len() as f64 + 4.0);
    let long = |value: f64| if value.is_finite() { room * value.max(0.0) / most } else { 0.0 };
    (most > 0.0).then(|| {
        html! {
            svg viewBox=(format!("0 0 {wide:.0} {high:.0}")) role="img" aria-label=(title) {
                @for (bar, y) in bars.iter().zip((0..).map(|row| ROW * f64::from(row))) {
                    @let end = bar.range.map_or(bar.value, |[_, high]| high.max(bar.value));
                    g class=(bar.look) {
                        title { (bar.name) ": " (bar.text) }
                        text.end x=(px(left - 6.0)) y=(px(y + 16.0)) { (bar.name) }
                        rect.bar x=(px(left)) y=(px(y + 4.0)) width=(px(long(bar.value))) height=(px(ROW - 8.0)) {}
                        @if let Some([low, high]) = bar.range {
                            @let ends = [low, high].map(|end| left + long(end));
                            path.range.over d=(format!("M{:.1} {:.1}H{:.1}", ends[0], y + 12.0, ends[1])) {}
                        }
                        text x=(px(left + long(end) + 6.0)) y=(px(y + 16.0)) { (bar.text) }
                    }
                }
            }
        }
    })
}
