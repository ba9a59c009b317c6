//! The scale, the curve and the codes of one group.

use multiversion::multiversion;
use qins_codec::Curvature;

use super::{Layout, Width};

const GROUP: usize = Layout::GROUP;

/// The search for a group's least squared error.
pub(super) struct Fit {
    width: Width,
    steps: f32,
    curves: [Curvature; Layout::CURVES],
    /// The least and the largest scale to try, as multiples of the group's largest magnitude.
    range: [f32; 2],
    /// Every which of them is tried; around the best, then, all.
    stride: f32,
}

/// A group as it is stored.
pub(super) struct Group {
    pub(super) scale: i8,
    pub(super) curve: u8,
    pub(super) codes: [u8; GROUP],
    /// Σ w·(x − s·t)².
    pub(super) error: f32,
}

impl Fit {
    pub(super) fn new(layout: Layout, curves: [Curvature; Layout::CURVES]) -> Self {
        // With few levels it pays to let the largest weight saturate, or to leave levels beyond it unused. With many
        // it does not, but where the levels fall among the other 31 is chance, and worth trying all scales for: of Gaussian
        // weights 0.2 dB at six bits and 0.3 at eight.
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

    #[inline(always)]
    fn grid(&self, scale: f32, curve: usize) -> Grid {
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        Grid { width: self.width, steps: self.steps, curve: self.curves[curve], scale, inverse }
    }
}

/// The instruction sets make no difference to the result: all operations are IEEE's, and none is fused.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn fit_group(fit: &Fit, x: &[f32], importance: Option<&[f32]>, d: f32) -> Group {
    let (mut padded, mut weight) = ([0.0; GROUP], [0.0; GROUP]);
    padded[..x.len()].copy_from_slice(x);
    match importance {
        Some(importance) => weight[..x.len()].copy_from_slice(importance),
        None => weight[..x.len()].fill(1.0),
    }
    let x = padded;
    let peak = x.iter().fold(0.0_f32, |peak, &x| if x.abs() > peak.abs() { x } else { peak });
    let candidate = |scale: f32, curve: usize| Candidate {
        error: squared_error(fit.grid(d * scale, curve), &x, &weight),
        scale,
        curve,
    };
    // All zeros, under a scale of zero.
    let mut best = Candidate { error: f32::INFINITY, scale: 0.0, curve: 0 };
    if d > 0.0 && peak != 0.0 {
        // Turned so that the largest weight is negative, where there is one level more.
        let scaled = |multiple: f32| whole(peak.abs() * multiple / d).max(1.0);
        let [mut scale, largest] = fit.range.map(scaled);
        while scale <= largest {
            for curve in 0..fit.curves.len() {
                best = best.or(candidate(scale.copysign(-peak), curve));
            }
            scale += fit.stride;
        }
        let near = best;
        for step in 1..fit.stride as i32 {
            for step in [-step, step] {
                best = best.or(candidate(whole(near.scale + step as f32), near.curve));
            }
        }
    }
    let grid = fit.grid(d * best.scale, best.curve);
    Group {
        scale: best.scale as i8,
        curve: best.curve as u8,
        codes: x.map(|x| (grid.code(x) + fit.steps) as u8),
        error: if best.scale == 0.0 { 0.0 } else { best.error },
    }
}

/// What a group can hold under one scale and curve.
#[derive(Clone, Copy)]
struct Grid {
    width: Width,
    steps: f32,
    curve: Curvature,
    scale: f32,
    inverse: f32,
}

impl Grid {
    /// The code of a weight, from −steps to steps − 1.
    ///
    /// The nearest in v, as in [`Code::encode`](qins_codec::Code::encode), for the same reason: choosing the nearest in
    /// t instead is worth 0.02 dB at most, even at three bits.
    #[inline(always)]
    fn code(self, x: f32) -> f32 {
        // Added to 1.5·2²³, whose ulp is 1, a number is rounded to an integer, negative or not.
        const ROUND: f32 = 12_582_912.0;
        let (k, y) = (self.curve.get(), x * self.inverse);
        let v = (1.0 + k) * y / (1.0 + k * y.abs());
        ((v * self.steps + ROUND) - ROUND).max(-self.steps).min(self.steps - 1.0)
    }

    /// The level t of the code of each weight; apart from any sum over them, so that it runs at vector width.
    #[inline(always)]
    fn levels(self, x: &[f32; GROUP]) -> [f32; GROUP] {
        let mut t = [0.0; GROUP];
        for (t, x) in t.iter_mut().zip(x) {
            *t = self.width.level(self.curve, self.code(*x));
        }
        t
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
#[inline(always)]
fn whole(scale: f32) -> f32 {
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

/// The sum of a term of each weight; by halves, so that it runs at vector width.
#[inline(always)]
fn sum(term: impl Fn(usize) -> f32) -> f32 {
    let mut terms: [f32; GROUP] = std::array::from_fn(term);
    for half in [16, 8, 4, 2, 1] {
        let (left, right) = terms.split_at_mut(half);
        for (left, right) in left.iter_mut().zip(right) {
            *left += *right;
        }
    }
    terms[0]
}
