//! The fit of one group with error feedback within it.
//!
//! A weight is rounded from what the errors of those before it leave to make up for, so the codes of a candidate, a scale and a
//! curve, follow one after the other. Candidates are independent: a lane for each.

use multiversion::multiversion;
use qins_codec::Curvature;

use super::{
    Layout, Width,
    fit::{Candidate, Fit, Grid, Group, peak, sum},
    with_bits,
};
use crate::feedback::Target;

const GROUP: usize = Layout::GROUP;

/// The most candidates that are tried at a time; enough for most groups of up to 5 bits.
const LANES: usize = 64;

/// A fitted group, and w − q of its weights.
pub(super) struct Fitted {
    pub(super) group: Group,
    pub(super) errors: [f32; GROUP],
}

impl Target<'_> {
    /// Fits the group under the scale `d` of its super-block. The error is Σ D·(c − q)².
    pub(super) fn fit(&self, fit: &Fit, d: f32) -> Fitted {
        fit_group(fit, self, d)
    }

    /// Σ D·(c − q)² of given errors w − q.
    #[inline(always)]
    pub(super) fn error_of(&self, errors: &[f32; GROUP]) -> f32 {
        let mut corrected = self.corrected;
        for (e, lower) in errors.iter().zip(self.lower) {
            corrected.iter_mut().zip(lower).for_each(|(c, l)| *c += e * l);
        }
        sum(|j| {
            let rest = corrected[j] - (self.weights[j] - errors[j]);
            self.costs[j] * rest * rest
        })
    }
}

fn fit_group(fit: &Fit, target: &Target<'_>, d: f32) -> Fitted {
    let mut best = Candidate::NONE;
    let mut batch = Batch::new();
    fit.coarse(peak(&target.corrected), d, |scale, curve| {
        batch.push(scale, curve);
        if batch.count == LANES {
            best = batch.best(fit, target, d, best);
        }
    });
    best = batch.best(fit, target, d, best);
    fit.near(best, |scale, curve| batch.push(scale, curve));
    best = batch.best(fit, target, d, best);
    codes(fit.grid(d * best.scale, best.curve), target, best)
}

/// Candidates to try.
struct Batch {
    scales: [f32; LANES],
    curves: [usize; LANES],
    count: usize,
}

impl Batch {
    fn new() -> Self {
        Self { scales: [0.0; LANES], curves: [0; LANES], count: 0 }
    }

    fn push(&mut self, scale: f32, curve: usize) {
        (self.scales[self.count], self.curves[self.count]) = (scale, curve);
        self.count += 1;
    }

    /// The best of `best` and of these, the first of equal ones; empties the batch.
    fn best(&mut self, fit: &Fit, target: &Target<'_>, d: f32, mut best: Candidate) -> Candidate {
        if self.count == 0 {
            return best;
        }
        let errors = errors_of(fit, self, target, d);
        for (lane, error) in errors.into_iter().enumerate().take(self.count) {
            best = best.or(Candidate { error, scale: self.scales[lane], curve: self.curves[lane] });
        }
        self.count = 0;
        best
    }
}

/// The error of each candidate. The result is the same on all instruction sets, as that of the fit without feedback is.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn errors_of(fit: &Fit, batch: &Batch, target: &Target<'_>, d: f32) -> [f32; LANES] {
    // The width and the number of lanes are constants in each loop.
    with_bits!(fit.width, BITS => match batch.count {
        ..=16 => errors_in_lanes::<BITS, 16>(fit, batch, target, d),
        17..=32 => errors_in_lanes::<BITS, 32>(fit, batch, target, d),
        _ => errors_in_lanes::<BITS, LANES>(fit, batch, target, d),
    })
}

#[inline(always)]
fn errors_in_lanes<const BITS: usize, const N: usize>(
    fit: &Fit,
    batch: &Batch,
    target: &Target<'_>,
    d: f32,
) -> [f32; LANES] {
    let width = Width::of::<BITS>();
    let (mut scale, mut inverse, mut curve) = ([0.0; N], [0.0; N], [Curvature::LINEAR; N]);
    for lane in 0..N {
        let grid = fit.grid(d * batch.scales[lane], batch.curves[lane]);
        (scale[lane], inverse[lane], curve[lane]) = (grid.scale, grid.inverse, grid.curve);
    }
    let (mut errors, mut terms) = ([[0.0; N]; GROUP], [[0.0; N]; GROUP]);
    for j in 0..GROUP {
        // Summed up here, and not into the sums of later columns as each error is found: that loop is compiled to gathers.
        let mut c = [target.corrected[j]; N];
        for (errors, lower) in errors[..j].iter().zip(target.lower) {
            for lane in 0..N {
                c[lane] += errors[lane] * lower[j];
            }
        }
        let (weight, cost) = (target.weights[j], target.costs[j]);
        for lane in 0..N {
            let grid = Grid { width, steps: fit.steps, curve: curve[lane], scale: scale[lane], inverse: inverse[lane] };
            let value = grid.value(grid.code(c[lane]));
            errors[j][lane] = weight - value;
            let rest = c[lane] - value;
            terms[j][lane] = cost * rest * rest;
        }
    }
    for half in [16, 8, 4, 2, 1] {
        let (left, right) = terms.split_at_mut(half);
        for (left, right) in left.iter_mut().zip(right) {
            for lane in 0..N {
                left[lane] += right[lane];
            }
        }
    }
    let mut all = [f32::INFINITY; LANES];
    all[..N].copy_from_slice(&terms[0]);
    all
}

/// The codes of a scale and a curve, by the same operations as those of a lane.
#[inline(always)]
fn codes(grid: Grid, target: &Target<'_>, best: Candidate) -> Fitted {
    let mut corrected = target.corrected;
    let (mut codes, mut errors, mut terms) = ([0; GROUP], [0.0; GROUP], [0.0; GROUP]);
    for j in 0..GROUP {
        let code = grid.code(corrected[j]);
        let value = grid.value(code);
        codes[j] = (code + grid.steps) as u8;
        errors[j] = target.weights[j] - value;
        let rest = corrected[j] - value;
        terms[j] = target.costs[j] * rest * rest;
        for (c, lower) in corrected[j + 1..].iter_mut().zip(&target.lower[j][j + 1..]) {
            *c += errors[j] * lower;
        }
    }
    let (scale, curve) = (best.scale as i8, best.curve as u8);
    Fitted { group: Group { scale, curve, codes, error: sum(|j| terms[j]) }, errors }
}
