//! The fit of one group: its scale, its curve and its codes.

use multiversion::multiversion;
use qins_codec::Curvature;

use super::{Layout, Width};

const GROUP: usize = Layout::GROUP;

/// The search for the least squared error of a group.
pub(super) struct Fit {
    pub(super) width: Width,
    pub(super) steps: f32,
    pub(super) curves: [Curvature; Layout::CURVES],
    /// The smallest and the largest scale to try, as multiples of the group's largest magnitude.
    range: [f32; 2],
    /// The step between scales that are tried first. Those between are tried around the best.
    stride: f32,
}

/// A group as it is stored.
#[derive(Clone)]
pub(super) struct Group {
    pub(super) scale: i8,
    pub(super) curve: u8,
    pub(super) codes: [u8; GROUP],
    /// Σ w·(x − s·t)².
    pub(super) error: f32,
}

impl Fit {
    pub(super) fn new(layout: Layout, curves: [Curvature; Layout::CURVES]) -> Self {
        // With few levels it pays off to let the largest weight saturate, or to leave levels beyond it unused. With many it
        // does not; but how the levels happen to meet the other 31 weights varies with each scale, so all are tried. On
        // Gaussian weights that gains 0.2 dB at 6 bits and 0.3 dB at 8.
        let (range, stride) = match layout.width() {
            Width::W3 | Width::W4 | Width::W5 => ([0.8, 1.25], 3.0),
            Width::W6 => ([0.9, 1.3], 1.0),
            Width::W8 => ([1.0, 1.2], 1.0),
        };
        Self { width: layout.width(), steps: layout.width().steps(), curves, range, stride }
    }

    /// Fits up to 32 weights under the scale `d` of their super-block.
    pub(super) fn group(&self, x: &[f32], importance: Option<&[f32]>, d: f32) -> Group {
        fit_group(self, x, importance, d)
    }

    /// Calls `visit` with the scales and curves to try first, for a group whose largest weight is `peak`.
    #[inline(always)]
    pub(super) fn coarse(&self, peak: f32, d: f32, mut visit: impl FnMut(f32, usize)) {
        if !(d > 0.0 && peak != 0.0) {
            return;
        }
        // The sign makes the largest weight negative, where there is one level more.
        let scaled = |multiple: f32| nearest_scale(peak.abs() * multiple / d).max(1.0);
        let [mut scale, largest] = self.range.map(scaled);
        while scale <= largest {
            for curve in 0..self.curves.len() {
                visit(scale.copysign(-peak), curve);
            }
            scale += self.stride;
        }
    }

    /// Calls `visit` with the scales that were left out around that of `best`.
    #[inline(always)]
    pub(super) fn near(&self, best: Candidate, mut visit: impl FnMut(f32, usize)) {
        if best.error == f32::INFINITY {
            return;
        }
        for step in 1..self.stride as i32 {
            for step in [-step, step] {
                visit(nearest_scale(best.scale + step as f32), best.curve);
            }
        }
    }

    #[inline(always)]
    pub(super) fn grid(&self, scale: f32, curve: usize) -> Grid {
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        Grid { width: self.width, steps: self.steps, curve: self.curves[curve], scale, inverse }
    }
}

/// The result is the same on all instruction sets: all operations are those of IEEE 754, and none is fused.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn fit_group(fit: &Fit, x: &[f32], importance: Option<&[f32]>, d: f32) -> Group {
    let (mut padded, mut weight) = ([0.0; GROUP], [0.0; GROUP]);
    padded[..x.len()].copy_from_slice(x);
    match importance {
        Some(importance) => weight[..x.len()].copy_from_slice(importance),
        None => weight[..x.len()].fill(1.0),
    }
    let x = padded;
    let candidate = |scale: f32, curve: usize| Candidate {
        error: squared_error(fit.grid(d * scale, curve), &x, &weight),
        scale,
        curve,
    };
    let mut best = Candidate::NONE;
    fit.coarse(peak(&x), d, |scale, curve| best = best.or(candidate(scale, curve)));
    fit.near(best, |scale, curve| best = best.or(candidate(scale, curve)));
    let grid = fit.grid(d * best.scale, best.curve);
    Group {
        scale: best.scale as i8,
        curve: best.curve as u8,
        codes: x.map(|x| (grid.code(x) + fit.steps) as u8),
        error: if best.scale == 0.0 { 0.0 } else { best.error },
    }
}

/// The weight of the largest magnitude; the first of several.
#[inline(always)]
pub(super) fn peak(x: &[f32; GROUP]) -> f32 {
    x.iter().fold(0.0_f32, |peak, &x| if x.abs() > peak.abs() { x } else { peak })
}

/// The levels of a group under one scale and curve.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    pub(super) width: Width,
    pub(super) steps: f32,
    pub(super) curve: Curvature,
    pub(super) scale: f32,
    pub(super) inverse: f32,
}

impl Grid {
    /// The code of a weight, from −steps to steps − 1.
    ///
    /// It is the nearest one in v, as in [`Code::encode`](qins_codec::Code::encode). Choosing the nearest in t instead would
    /// gain 0.02 dB at most, even at 3 bits.
    #[inline(always)]
    pub(super) fn code(self, x: f32) -> f32 {
        // Adding 1.5·2²³, whose ulp is 1, rounds to the nearest integer, for either sign.
        const ROUND: f32 = 12_582_912.0;
        let (k, y) = (self.curve.get(), x * self.inverse);
        let v = (1.0 + k) * y / (1.0 + k * y.abs());
        ((v * self.steps + ROUND) - ROUND).max(-self.steps).min(self.steps - 1.0)
    }

    /// The weight that a code stands for.
    #[inline(always)]
    pub(super) fn value(self, code: f32) -> f32 {
        self.scale * self.width.level(self.curve, code)
    }

    /// The level t of the code of each weight. Not fused with a sum over them, so that it is vectorised.
    #[inline(always)]
    fn levels(self, x: &[f32; GROUP]) -> [f32; GROUP] {
        let mut t = [0.0; GROUP];
        for (t, x) in t.iter_mut().zip(x) {
            *t = self.width.level(self.curve, self.code(*x));
        }
        t
    }
}

/// A scale and a curve, with their error.
#[derive(Clone, Copy)]
pub(super) struct Candidate {
    pub(super) error: f32,
    pub(super) scale: f32,
    pub(super) curve: usize,
}

impl Candidate {
    /// A scale of zero, for a group of zeros.
    pub(super) const NONE: Self = Self { error: f32::INFINITY, scale: 0.0, curve: 0 };

    /// The one with the smaller error; `self` if they are equal.
    #[inline(always)]
    pub(super) fn or(self, other: Self) -> Self {
        if other.error < self.error { other } else { self }
    }
}

/// The nearest scale that a group can have.
#[inline(always)]
fn nearest_scale(scale: f32) -> f32 {
    scale.round().clamp(f32::from(-i8::MAX), f32::from(i8::MAX))
}

/// Σ w·(x − s·t)².
#[inline(always)]
fn squared_error(grid: Grid, x: &[f32; GROUP], w: &[f32; GROUP]) -> f32 {
    let t = grid.levels(x);
    sum(|i| {
        let e = x[i] - grid.scale * t[i];
        w[i] * e * e
    })
}

/// The sum of one term per weight, added by halves so that it is vectorised.
#[inline(always)]
pub(super) fn sum(term: impl Fn(usize) -> f32) -> f32 {
    let mut terms: [f32; GROUP] = std::array::from_fn(term);
    for half in [16, 8, 4, 2, 1] {
        let (left, right) = terms.split_at_mut(half);
        for (left, right) in left.iter_mut().zip(right) {
            *left += *right;
        }
    }
    terms[0]
}
