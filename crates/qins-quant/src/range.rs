//! Weights that are too small for the scales of their form.
//!
//! A scale is an `f16`, whose smallest number is 2⁻²⁴: near it a scale is coarse, and below it weights become zeros.

use std::ops::AddAssign;

use rayon::prelude::*;

use crate::EncodeError;

/// The range of a form's scales.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScaleRange {
    /// Weights of a row that share a scale.
    pub(crate) span: usize,
    /// The least largest magnitude of such weights under which the scale is precise enough.
    pub(crate) least: f32,
}

/// The share of a matrix's energy that may be below the range: well below the error of any scheme with scales, so that rows
/// of next to nothing in an ordinary matrix pass.
const NEGLIGIBLE: f64 = 1e-6;

/// How much of a matrix is below the range of its scales.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BelowRange {
    /// Σ x² of all weights.
    energy: f64,
    /// Σ x² of those below.
    below: f64,
    /// The largest weight of the first scale that is below: row, column, value and the least magnitude.
    first: Option<(usize, usize, f32, f32)>,
}

impl BelowRange {
    /// Of rows of `cols` finite weights.
    pub(crate) fn of(range: ScaleRange, weights: &[f32], cols: usize) -> Self {
        let row = |(row, x): (usize, &[f32])| {
            let mut sums = Self::default();
            for (block, x) in x.chunks(range.span.max(1)).enumerate() {
                let energy: f64 = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
                let largest = x.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
                sums.energy += energy;
                if largest > 0.0 && largest < range.least {
                    sums.below += energy;
                    let at = x.iter().position(|x| x.abs() == largest).unwrap_or(0);
                    sums.first = sums.first.or(Some((row, block * range.span + at, x[at], range.least)));
                }
            }
            sums
        };
        let rows: Vec<Self> = weights.par_chunks(cols.max(1)).enumerate().map(row).collect();
        rows.into_iter().fold(Self::default(), |mut sums, row| {
            sums += row;
            sums
        })
    }

    /// The same for rows that start at `first`.
    pub(crate) fn offset_rows(mut self, first: usize) -> Self {
        if let Some((row, ..)) = &mut self.first {
            *row += first;
        }
        self
    }

    /// # Errors
    /// When more than a negligible part of the matrix is below the range.
    pub(crate) fn check(self) -> Result<(), EncodeError> {
        match self.first {
            Some((row, col, value, least)) if self.below > NEGLIGIBLE * self.energy => {
                Err(EncodeError::BelowRange { row, col, value, least })
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl AddAssign for BelowRange {
    fn add_assign(&mut self, other: Self) {
        self.energy += other.energy;
        self.below += other.below;
        self.first = self.first.or(other.first);
    }
}
