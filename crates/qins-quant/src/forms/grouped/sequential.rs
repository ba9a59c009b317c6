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

/// The codes of all candidates of a batch, from −steps on, and w − q of their weights.
pub(super) struct Lanes {
    codes: [[f32; LANES]; GROUP],
    errors: [[f32; LANES]; GROUP],
}

impl Lanes {
    /// Zeros, which each batch overwrites.
    pub(super) fn new() -> Box<Self> {
        Box::new(Self { codes: [[0.0; LANES]; GROUP], errors: [[0.0; LANES]; GROUP] })
    }
}

impl Target<'_> {
    /// Fits the group under the scale `d` of its super-block. The error is Σ D·(c − q)².
    pub(super) fn fit(&self, fit: &Fit, d: f32, lanes: &mut Lanes) -> Fitted {
        fit_group(fit, self, d, lanes)
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

fn fit_group(fit: &Fit, target: &Target<'_>, d: f32, lanes: &mut Lanes) -> Fitted {
    let mut best = Best { candidate: Candidate::NONE, codes: [0; GROUP], errors: [0.0; GROUP] };
    let mut batch = Batch::new();
    fit.coarse(peak(&target.corrected), d, |scale, curve| {
        batch.push(scale, curve);
        if batch.count == LANES {
            best.improve(&mut batch, fit, target, d, lanes);
        }
    });
    best.improve(&mut batch, fit, target, d, lanes);
    fit.near(best.candidate, |scale, curve| batch.push(scale, curve));
    best.improve(&mut batch, fit, target, d, lanes);
    let Best { candidate: Candidate { error, scale, curve }, codes, errors } = best;
    if error == f32::INFINITY {
        return zeros(fit, target);
    }
    Fitted { group: Group { scale: scale as i8, curve: curve as u8, codes, error }, errors }
}

/// The best candidate so far, with its codes and w − q of its weights.
struct Best {
    candidate: Candidate,
    codes: [u8; GROUP],
    errors: [f32; GROUP],
}

impl Best {
    /// Takes the first of the best candidates of a batch if it is better; empties the batch.
    fn improve(&mut self, batch: &mut Batch, fit: &Fit, target: &Target<'_>, d: f32, lanes: &mut Lanes) {
        if batch.count == 0 {
            return;
        }
        let mut winner = None;
        let errors = errors_of(fit, batch, target, d, lanes);
        for (lane, error) in errors.into_iter().enumerate().take(batch.count) {
            if error < self.candidate.error {
                self.candidate = Candidate { error, scale: batch.scales[lane], curve: batch.curves[lane] };
                winner = Some(lane);
            }
        }
        if let Some(lane) = winner {
            self.codes = std::array::from_fn(|j| (lanes.codes[j][lane] + fit.steps) as u8);
            self.errors = std::array::from_fn(|j| lanes.errors[j][lane]);
        }
        batch.count = 0;
    }
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
}

/// The error of each candidate. The result is the same on all instruction sets, as that of the fit without feedback is.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn errors_of(fit: &Fit, batch: &Batch, target: &Target<'_>, d: f32, lanes: &mut Lanes) -> [f32; LANES] {
    // The width and the number of lanes are constants in each loop.
    with_bits!(fit.width, BITS => match batch.count {
        ..=16 => errors_in_lanes::<BITS, 16>(fit, batch, target, d, lanes),
        17..=32 => errors_in_lanes::<BITS, 32>(fit, batch, target, d, lanes),
        33..=48 => errors_in_lanes::<BITS, 48>(fit, batch, target, d, lanes),
        _ => errors_in_lanes::<BITS, LANES>(fit, batch, target, d, lanes),
    })
}

#[inline(always)]
fn errors_in_lanes<const BITS: usize, const N: usize>(
    fit: &Fit,
    batch: &Batch,
    target: &Target<'_>,
    d: f32,
    lanes: &mut Lanes,
) -> [f32; LANES] {
    let width = Width::of::<BITS>();
    let (mut scale, mut inverse, mut curve) = ([0.0; N], [0.0; N], [Curvature::LINEAR; N]);
    for lane in 0..N {
        let grid = fit.grid(d * batch.scales[lane], batch.curves[lane]);
        (scale[lane], inverse[lane], curve[lane]) = (grid.scale, grid.inverse, grid.curve);
    }
    let Lanes { codes, errors } = lanes;
    let mut terms = [[0.0; N]; GROUP];
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
            let code = grid.code(c[lane]);
            let value = grid.value(code);
            codes[j][lane] = code;
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

/// A group without a scale: all of its weights become zeros.
fn zeros(fit: &Fit, target: &Target<'_>) -> Fitted {
    let errors = target.weights;
    let group = Group { scale: 0, curve: 0, codes: [fit.steps as u8; GROUP], error: target.error_of(&errors) };
    Fitted { group, errors }
}
