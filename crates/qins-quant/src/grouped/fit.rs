//! The scale, the curve and the codes of one group.

use qins_codec::Curvature;

use super::Layout;

const GROUP: usize = Layout::GROUP;

/// Scales to try around the best of [`Fit::scales`].
const FINE: [f32; 6] = [0.97, 0.98, 0.99, 1.01, 1.02, 1.03];

/// The search for a group's least squared error.
pub(super) struct Fit {
    steps: f32,
    curves: [Curvature; Layout::CURVES],
    /// Scales to try, as multiples of the group's largest magnitude.
    scales: &'static [f32],
}

/// A group as it is stored.
pub(super) struct Group {
    pub(super) scale: i8,
    pub(super) curve: u8,
    pub(super) codes: [u8; GROUP],
}

impl Fit {
    pub(super) fn new(layout: Layout, curves: [Curvature; Layout::CURVES]) -> Self {
        // With few levels it pays to let the largest weight saturate, or to leave levels beyond it unused. With many
        // it does not, but some scale near the largest weight still suits the other 31 by chance.
        let scales: &[f32] = if layout.bits() <= 5 {
            &[0.8, 0.9, 0.96, 1.0, 1.04, 1.08, 1.12, 1.16, 1.2]
        } else {
            &[1.0, 1.03, 1.06, 1.09]
        };
        Self { steps: layout.steps(), curves, scales }
    }

    /// Fits up to 32 weights under the scale `d` of their super-block.
    pub(super) fn group(&self, x: &[f32], importance: Option<&[f32]>, d: f32) -> Group {
        let (mut padded, mut weight) = ([0.0; GROUP], [0.0; GROUP]);
        padded[..x.len()].copy_from_slice(x);
        match importance {
            Some(importance) => weight[..x.len()].copy_from_slice(importance),
            None => weight[..x.len()].fill(1.0),
        }
        let x = padded;
        let peak = x.iter().fold(0.0_f32, |peak, &x| if x.abs() > peak.abs() { x } else { peak });
        let candidate = |scale: f32, curve: usize| {
            let (_, t) = self.nearest(&x, d * scale, self.curves[curve]);
            Candidate { error: squared_error(&x, &t, &weight, d * scale), scale, curve }
        };
        // All zeros, under a scale of zero.
        let mut best = Candidate { error: f32::INFINITY, scale: 0.0, curve: 0 };
        if d > 0.0 && peak != 0.0 {
            for curve in 0..self.curves.len() {
                for multiple in self.scales {
                    // Turned so that the largest weight is negative, where there is one level more.
                    let scale = whole(peak.abs() * multiple / d).max(1.0).copysign(-peak);
                    best = best.or(candidate(scale, curve));
                }
            }
            let near = best;
            for multiple in FINE {
                best = best.or(candidate(whole(near.scale * multiple), near.curve));
            }
            let (_, t) = self.nearest(&x, d * best.scale, self.curves[best.curve]);
            if let Some(refit) = least_squares(&x, &t, &weight) {
                best = best.or(candidate(whole(refit / d), best.curve));
            }
        }
        let (q, _) = self.nearest(&x, d * best.scale, self.curves[best.curve]);
        Group { scale: best.scale as i8, curve: best.curve as u8, codes: q.map(|q| (q + self.steps) as u8) }
    }

    /// The code q of each weight, and its level t.
    ///
    /// The nearest in v, as in [`Code::encode`](qins_codec::Code::encode), for the same reason: choosing the nearest in
    /// t instead is worth less than 0.02 dB even at three bits.
    fn nearest(&self, x: &[f32; GROUP], scale: f32, curve: Curvature) -> ([f32; GROUP], [f32; GROUP]) {
        let (mut q, mut t) = ([0.0; GROUP], [0.0; GROUP]);
        if scale == 0.0 {
            return (q, t);
        }
        // Added to 1.5·2²³, whose ulp is 1, a number is rounded to an integer, negative or not.
        const ROUND: f32 = 12_582_912.0;
        let (k, inverse) = (curve.get(), 1.0 / scale);
        for ((&x, q), t) in x.iter().zip(&mut q).zip(&mut t) {
            let y = x * inverse;
            let v = (1.0 + k) * y / (1.0 + k * y.abs());
            *q = ((v * self.steps + ROUND) - ROUND).max(-self.steps).min(self.steps - 1.0);
            *t = curve.level(*q, self.steps);
        }
        (q, t)
    }
}

/// A choice, and what it costs.
#[derive(Clone, Copy)]
struct Candidate {
    error: f32,
    scale: f32,
    curve: usize,
}

impl Candidate {
    /// The better of two.
    fn or(self, other: Self) -> Self {
        if other.error < self.error { other } else { self }
    }
}

/// The nearest scale a group can have.
fn whole(scale: f32) -> f32 {
    scale.round().clamp(f32::from(-i8::MAX), f32::from(i8::MAX))
}

/// Σ w·(x − s·t)², in lanes that vectorise.
fn squared_error(x: &[f32; GROUP], t: &[f32; GROUP], w: &[f32; GROUP], s: f32) -> f32 {
    sum(|i| {
        let e = x[i] - s * t[i];
        w[i] * e * e
    })
}

/// The s of least Σ w·(x − s·t)², if there is one.
fn least_squares(x: &[f32; GROUP], t: &[f32; GROUP], w: &[f32; GROUP]) -> Option<f32> {
    let square = sum(|i| w[i] * t[i] * t[i]);
    (square > 0.0).then(|| sum(|i| w[i] * x[i] * t[i]) / square)
}

#[inline]
fn sum(term: impl Fn(usize) -> f32) -> f32 {
    const LANES: usize = 8;
    let mut lanes = [0.0; LANES];
    for first in (0..GROUP).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(first + lane);
        }
    }
    lanes.iter().sum()
}
