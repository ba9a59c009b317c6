//! Axes: positions of values, and ticks.

/// The part of a logarithmic axis below its smallest positive value, reserved for 0.
const ZERO: f64 = 0.09;
/// Maximum number of ticks.
const TICKS: f64 = 7.0;

/// An axis from its low end, 0, to its high end, 1.
pub(super) struct Axis {
    pub(super) title: String,
    /// Ticks with their labels.
    pub(super) ticks: Vec<(f64, String)>,
    low: f64,
    high: f64,
    scale: Scale,
}

#[derive(Clone, Copy, PartialEq)]
enum Scale {
    Linear,
    Log,
    /// Logarithmic, with 0 at its low end.
    LogAndZero,
}

impl Axis {
    /// An axis in equal steps of 1, 2 or 5 times a power of ten, its ends being ticks.
    pub(super) fn linear(title: &str, values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let (low, high) = ends(values)?;
        let wide = if high > low { high - low } else { low.abs().max(1.0) };
        let magnitude = 10_f64.powf((wide / TICKS).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * magnitude).into_iter().find(|step| wide / step <= TICKS)?;
        let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil().max((low / step).floor() + 1.0));
        let digits = (-step.log10().floor()).max(0.0) as usize;
        let ticks = (0..=(last - first) as usize).map(|i| (first + i as f64) * step);
        let ticks = ticks.map(|at| (at, format!("{:.digits$}", at + 0.0))).collect();
        let (low, high) = (first * step, last * step);
        Some(Self { title: title.to_owned(), ticks, low, high, scale: Scale::Linear })
    }

    /// A linear axis that ends where its values do.
    pub(super) fn tight(title: &str, values: impl IntoIterator<Item = f64> + Clone) -> Option<Self> {
        let (low, high) = ends(values.clone())?;
        let mut axis = Self::linear(title, values)?;
        if low < high {
            (axis.low, axis.high) = (low, high);
            axis.ticks.retain(|(at, _)| (low..=high).contains(at));
        }
        Some(axis)
    }

    /// An axis in powers of ten, and 0 below them if it is among the values.
    pub(super) fn decades(title: &str, values: impl IntoIterator<Item = f64> + Clone) -> Option<Self> {
        let zero = values.clone().into_iter().any(|v| v == 0.0);
        let positive = values.into_iter().filter(|v| *v > 0.0);
        let (low, high) = match ends(positive) {
            Some((low, high)) => (low.log10().floor(), high.log10().ceil()),
            None if zero => (-8.0, 0.0),
            None => return None,
        };
        let high = if high > low { high } else { low + 1.0 };
        let (first, last) = (low as i32, high as i32);
        let every = ((high - low) / TICKS).ceil().max(1.0) as usize;
        let within: &[f64] = if last - first <= 2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let decades = (first..=last).step_by(every);
        let ticks = decades.flat_map(|d| within.iter().map(move |m| m * 10_f64.powi(d)));
        let ticks = ticks.filter(|at| *at <= 10_f64.powi(last) * 1.001).map(|at| (at, power(at)));
        let scale = if zero { Scale::LogAndZero } else { Scale::Log };
        let ticks = zero.then(|| (0.0, "0".to_owned())).into_iter().chain(ticks).collect();
        Some(Self { title: title.to_owned(), ticks, low: low * 10_f64.ln(), high: high * 10_f64.ln(), scale })
    }

    /// An axis in powers of two, a little longer than its values need.
    pub(super) fn octaves(title: &str, values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let (low, high) = ends(values.into_iter().filter(|v| *v > 0.0))?;
        let (first, last) = (low.log2().floor() as i32, high.log2().ceil() as i32);
        let every = (f64::from(last - first) / TICKS).ceil().max(1.0) as usize;
        let (low, high) = (low.ln() - 0.1, high.ln() + 0.1);
        let ticks = (first..=last).step_by(every).map(|octave| 2_f64.powi(octave));
        let ticks = ticks.filter(|at| (low..=high).contains(&at.ln())).map(|at| (at, format!("{at}"))).collect();
        Some(Self { title: title.to_owned(), ticks, low, high, scale: Scale::Log })
    }

    /// The same axis with other ticks.
    pub(super) fn with_ticks(self, ticks: Vec<(f64, String)>) -> Self {
        Self { ticks, ..self }
    }

    /// Where `value` lies from 0 to 1; `None` off the axis.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        let at = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value.ln() - self.low) / (self.high - self.low),
            Scale::LogAndZero if value <= 0.0 => 0.0,
            Scale::LogAndZero => ZERO + (1.0 - ZERO) * (value.ln() - self.low) / (self.high - self.low),
        };
        (-1e-6..=1.0 + 1e-6).contains(&at).then_some(at)
    }

    /// Where `value` lies, at the nearer end if it is off the axis.
    pub(super) fn clamped(&self, value: f64) -> f64 {
        let (low, high) =
            if self.scale == Scale::Linear { (self.low, self.high) } else { (self.low.exp(), self.high.exp()) };
        // Not `clamp`, which would pass a NaN on.
        let low = if self.scale == Scale::LogAndZero { 0.0 } else { low };
        self.place(value.max(low).min(high)).unwrap_or(0.0)
    }
}

/// The smallest and the largest of the finite `values`.
fn ends(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.into_iter().filter(|v| v.is_finite()).map(|v| (v, v));
    finite.reduce(|a, b| (f64::min(a.0, b.0), f64::max(a.1, b.1)))
}

/// The label of a round number, in the format of the tables.
fn power(x: f64) -> String {
    if (0.009..10_000.0).contains(&x) { format!("{}", (x * 1e6).round() / 1e6) } else { format!("{x:.0e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, text)| &**text).collect()
    }

    #[test]
    fn linear_axes_have_round_ticks() {
        let axis = Axis::linear("", [0.0, 64.0, f64::NAN]).unwrap();
        assert_eq!(ticks(&axis), ["0", "10", "20", "30", "40", "50", "60", "70"]);
        assert_eq!((axis.place(35.0), axis.place(71.0), axis.place(f64::NAN)), (Some(0.5), None, None));
        assert_eq!(ticks(&Axis::tight("", [0.0, 64.0]).unwrap()).last(), Some(&"60"));
        assert_eq!(ticks(&Axis::linear("", [0.31, 0.34]).unwrap()).first(), Some(&"0.310"));
        for same in [0.0, 3.0, -0.25] {
            let axis = Axis::linear("", [same]).unwrap();
            assert!(axis.ticks.len() >= 2 && axis.place(same).is_some(), "{:?}", axis.ticks);
        }
        assert!(Axis::linear("", [f64::NAN]).is_none());
    }

    #[test]
    fn logarithmic_axes_reserve_a_place_for_zero() {
        let axis = Axis::decades("", [3e-5, 0.2]).unwrap();
        assert_eq!(ticks(&axis), ["1e-5", "1e-4", "1e-3", "0.01", "0.1", "1"]);
        assert_eq!((axis.place(0.0), axis.clamped(0.0)), (None, 0.0));
        let axis = Axis::decades("", [0.0, 3e-5, 0.2]).unwrap();
        assert_eq!((axis.place(0.0), axis.clamped(f64::NAN)), (Some(0.0), 0.0));
        assert!((axis.place(1e-5).unwrap() - ZERO).abs() < 1e-9);
        assert!(Axis::decades("", [0.0]).is_some() && Axis::decades("", [f64::NAN]).is_none());
        assert_eq!(ticks(&Axis::octaves("", [3.4, 32.0]).unwrap()), ["4", "8", "16", "32"]);
    }
}
