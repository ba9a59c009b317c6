//! The factor of damped second moments, as encoders read it.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use rayon::prelude::*;

use super::{
    cholesky,
    drift::Drift,
    order::{self, Ordered},
};
use crate::{
    Layout,
    kernel::{Accumulate, Prepared, View},
};

const GROUP: usize = Layout::GROUP;

/// What an encoder needs of a linear's inputs to feed errors back; [`Hessian::feedback`](super::Hessian::feedback) makes it.
#[derive(Clone)]
pub struct Feedback {
    cols: usize,
    /// Lᵢⱼ = Rᵢⱼ/Rⱼⱼ for i < j, `[cols, cols]`; zeros elsewhere.
    lower: Prepared,
    /// Dⱼ = Rⱼⱼ², as shares of the largest.
    costs: Vec<f32>,
    /// What was added to the diagonal, in units of the largest cost, and that unit.
    damping: f64,
    unit: f64,
    importance: Arc<[f32]>,
    refinement: Option<Refinement>,
    /// What the encoder is to make up for of errors before the linear.
    drift: Option<Drift>,
    /// Computed when it is asked for.
    descending: OnceLock<Box<Ordered>>,
}

/// What adjusts codes when those of all columns are known.
#[derive(Clone, PartialEq)]
struct Refinement {
    /// The damped moments, `[cols, cols]`, in units of the largest cost.
    moments: Prepared,
    /// Of each group's columns.
    blocks: Vec<Block>,
}

/// The moments of a group's columns, with zeros for the columns that the last group lacks.
#[derive(Clone, PartialEq)]
pub(crate) struct Block {
    /// H, with ones on the diagonal of missing columns.
    pub(crate) moments: [[f32; GROUP]; GROUP],
    /// H⁻¹.
    pub(crate) inverse: [[f32; GROUP]; GROUP],
    /// As [`Feedback`]'s, of these columns alone.
    pub(crate) lower: [[f32; GROUP]; GROUP],
    pub(crate) costs: [f32; GROUP],
}

impl Feedback {
    /// From the factor R in the upper triangle of `factor`, the upper triangle of R·Rᵀ if codes will be adjusted, and what was
    /// added to its diagonal.
    pub(super) fn new(
        cols: usize,
        factor: &[f64],
        moments: Option<&[f64]>,
        damping: f64,
        importance: Arc<[f32]>,
    ) -> Self {
        let pivots: Vec<f64> = (0..cols).map(|j| factor[j * (cols + 1)]).collect();
        let largest = pivots.iter().fold(0.0_f64, |largest, pivot| largest.max(pivot * pivot));
        let lower = Prepared::new([cols; 2], |i, first, out| {
            for (j, out) in (first..).zip(out).skip((i + 1).saturating_sub(first)) {
                *out = (factor[i * cols + j] / pivots[j]) as f32;
            }
        });
        let refinement = moments.map(|upper| Refinement::new(cols, upper, largest));
        let costs = pivots.iter().map(|pivot| (pivot * pivot / largest) as f32).collect();
        Self {
            cols,
            lower,
            costs,
            damping: damping / largest,
            unit: largest,
            importance,
            refinement,
            drift: None,
            descending: OnceLock::new(),
        }
    }

    /// With C, `[cols, cols]`, unless it is empty.
    pub(super) fn with_drift(self, drift: &[f64]) -> Self {
        let drift = (!drift.is_empty()).then(|| Drift::new(drift, self.unit, &self.lower));
        Self { drift, ..self }
    }

    /// The weights to encode in the place of rows of `weights`, `[rows, cols]`, so that they make up for errors before the linear; `None` if
    /// there is nothing to make up for. They do not depend on which rows are given at a time, if those are whole groups of rows that
    /// are corrected together.
    ///
    /// # Panics
    /// When `weights` is not a whole number of rows.
    pub(crate) fn corrected(&self, weights: &[f32]) -> Option<Vec<f32>> {
        self.drift.as_ref().map(|drift| drift.corrected(weights, &self.lower, &self.costs))
    }

    /// The number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The mean squares of the inputs, before damping.
    pub fn importance(&self) -> &Arc<[f32]> {
        &self.importance
    }

    /// Σ w·H·wᵀ over the rows of `weights`, `[rows, cols]`, before damping: the mean square of their product with the inputs, summed
    /// over rows, as precise as `f32` is.
    ///
    /// # Panics
    /// When `weights` is not a whole number of rows.
    pub fn energy(&self, weights: &[f32]) -> f64 {
        let cols = self.cols.max(1);
        assert!(weights.len().is_multiple_of(cols), "energy: expected rows of {cols} numbers");
        let band = |w: &[f32]| -> f64 {
            let shape = [w.len() / cols, self.cols];
            let mut corrected = w.to_vec();
            let all = [0, self.cols];
            self.lower.product(&mut corrected, cols, View::new(w, shape, [cols, 1]), all, all, Accumulate::Yes);
            let square = |x: &f32| f64::from(*x) * f64::from(*x);
            let row = |(w, c): (&[f32], &[f32])| {
                let damped: f64 = c.iter().zip(&self.costs).map(|(c, cost)| square(c) * f64::from(*cost)).sum();
                (damped - self.damping * w.iter().map(square).sum::<f64>()).max(0.0)
            };
            w.chunks_exact(cols).zip(corrected.chunks_exact(cols)).map(row).sum()
        };
        let bands: Vec<f64> = weights.par_chunks(64 * cols).map(band).collect();
        bands.into_iter().sum::<f64>() * self.unit
    }

    /// Lᵢⱼ for i < j, `[cols, cols]`.
    pub(crate) fn lower(&self) -> &Prepared {
        &self.lower
    }

    /// Dⱼ.
    pub(crate) fn costs(&self) -> &[f32] {
        &self.costs
    }

    /// What costs are shares of.
    #[cfg(test)]
    pub(crate) fn unit(&self) -> f64 {
        self.unit
    }

    /// The damped moments, `[cols, cols]`, and those of each group; `None` unless made for [`Effort::Best`](super::Effort::Best).
    pub(crate) fn refinement(&self) -> Option<(&Prepared, &[Block])> {
        self.refinement.as_ref().map(|refinement| (&refinement.moments, &*refinement.blocks))
    }

    /// The same for columns by the mean squares of their inputs, the largest first.
    pub(crate) fn descending(&self) -> &Ordered {
        if let Some(descending) = self.descending.get() {
            return descending;
        }
        // Not within the lock: a thread that waits for parts of this work may take up other work that needs the lock.
        let descending = Box::new(Ordered::descending(self));
        self.descending.get_or_init(|| descending)
    }

    /// The same for the columns in this order; `None` if moments in that order have no factor.
    pub(super) fn reordered(&self, columns: &[usize]) -> Option<Self> {
        let roots: Vec<f64> = self.costs.iter().map(|cost| f64::from(*cost).sqrt()).collect();
        let factor = order::factor(self.cols, |i| {
            let i = columns[i];
            let lower = roots.iter().enumerate().map(|(j, root)| f64::from(self.lower.at(i, j)) * root);
            let mut row: Vec<f64> = lower.collect();
            row[i] = roots[i];
            row
        })?;
        let importance = columns.iter().map(|column| self.importance[*column]).collect();
        let reordered = Self::new(self.cols, &factor, None, self.damping, importance);
        Some(Self { unit: self.unit * reordered.unit, ..reordered })
    }

    /// Lᵢⱼ within the group from column `first` on; zeros for columns that it lacks.
    pub(crate) fn within(&self, first: usize) -> [[f32; GROUP]; GROUP] {
        let width = GROUP.min(self.cols - first);
        let mut within = [[0.0; GROUP]; GROUP];
        for (i, row) in within.iter_mut().enumerate().take(width) {
            self.lower.copy_row(first + i, first, &mut row[..width]);
        }
        within
    }
}

impl Refinement {
    fn new(cols: usize, upper: &[f64], unit: f64) -> Self {
        let at = |i: usize, j: usize| upper[i.min(j) * cols + i.max(j)] / unit;
        let moments = Prepared::new([cols; 2], |i, first, out| {
            out.iter_mut().zip(first..).for_each(|(h, j)| *h = at(i, j) as f32);
        });
        let firsts: Vec<usize> = (0..cols).step_by(GROUP).collect();
        let block = |first: &usize| {
            let in_group = |i: usize, j: usize| match (first + i < cols, first + j < cols) {
                (true, true) => at(first + i, first + j),
                _ => f64::from(u8::from(i == j)),
            };
            Block::new(&std::array::from_fn(|i| std::array::from_fn(|j| in_group(i, j))))
        };
        Self { moments, blocks: firsts.par_iter().map(block).collect() }
    }
}

impl Block {
    fn new(h: &[[f64; GROUP]; GROUP]) -> Self {
        let mut r: Vec<f64> = h.as_flattened().to_vec();
        // A principal part of a definite matrix is definite.
        let is_definite = cholesky::upper(&mut r, GROUP).is_some();
        let r = |i: usize, j: usize| if is_definite { r[i * GROUP + j] } else { f64::from(u8::from(i == j)) };
        // H⁻¹ = R⁻ᵀ·R⁻¹, R⁻¹ by back substitution.
        let mut columns = [[0.0; GROUP]; GROUP];
        for (j, column) in columns.iter_mut().enumerate() {
            for i in (0..=j).rev() {
                let sum: f64 = (i + 1..=j).map(|k| r(i, k) * column[k]).sum();
                column[i] = (f64::from(u8::from(i == j)) - sum) / r(i, i);
            }
        }
        let dot = |i: usize, j: usize| columns[i].iter().zip(&columns[j]).map(|(a, b)| a * b).sum::<f64>() as f32;
        Self {
            moments: h.map(|row| row.map(|h| h as f32)),
            inverse: std::array::from_fn(|i| std::array::from_fn(|j| dot(i, j))),
            lower: std::array::from_fn(|i| {
                std::array::from_fn(|j| if i < j { (r(i, j) / r(j, j)) as f32 } else { 0.0 })
            }),
            costs: std::array::from_fn(|j| (r(j, j) * r(j, j)) as f32),
        }
    }
}

/// Whether another order was asked for makes no difference.
impl PartialEq for Feedback {
    fn eq(&self, other: &Self) -> bool {
        let Self { cols, lower, costs, damping, unit, importance, refinement, drift, descending: _ } = self;
        (cols, damping, unit) == (&other.cols, &other.damping, &other.unit)
            && (lower, costs) == (&other.lower, &other.costs)
            && (importance, refinement, drift) == (&other.importance, &other.refinement, &other.drift)
    }
}

impl fmt::Debug for Feedback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feedback").field("cols", &self.cols).finish_non_exhaustive()
    }
}
