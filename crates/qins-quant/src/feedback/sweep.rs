//! The sweep over the columns of some rows: each group of them is rounded from what the errors of those before leave to make up for.

use super::Feedback;
use crate::{
    EncodeError, Layout,
    kernel::{Accumulate, Prepared, View},
};

const GROUP: usize = Layout::GROUP;

/// Columns that are begun together.
pub(crate) const BLOCK: usize = Layout::SUPER * GROUP;

// The parts of the factor that are multiplied by start where they may.
const _: () = assert!(BLOCK.is_multiple_of(Prepared::ROWS) && GROUP.is_multiple_of(Prepared::COLUMNS));

/// Rows that are encoded together. The same rows are together however a matrix is split for reading, since their products may depend
/// on what they are multiplied with.
pub(crate) const ROWS: usize = 64;

/// The weights of a group, and how errors count.
pub(crate) struct Target<'a> {
    /// The weights w. Those that the last group lacks are zeros.
    pub(crate) weights: [f32; GROUP],
    /// c, as far as it depends on the columns before the group.
    pub(crate) corrected: [f32; GROUP],
    /// D; zeros for weights that the last group lacks.
    pub(crate) costs: [f32; GROUP],
    /// L within the group, zeros on and below its diagonal.
    pub(crate) lower: &'a [[f32; GROUP]; GROUP],
}

/// How weights are rounded.
pub(crate) trait Rounding {
    /// Begins a [`BLOCK`] of columns of a row, from column `start` on; `corrected` is c of them, as far as it depends on the columns before.
    fn begin(&mut self, row: usize, start: usize, corrected: &[f32]) -> Result<(), EncodeError>;

    /// Rounds a group of a row, whose first column is `first`, and gives w − q of its weights.
    fn group(&mut self, row: usize, first: usize, target: &Target<'_>) -> [f32; GROUP];
}

/// Rounds rows `x`; gives w − q of all weights, row-major.
pub(crate) fn sweep(x: &[f32], feedback: &Feedback, rounding: &mut impl Rounding) -> Result<Vec<f32>, EncodeError> {
    let cols = feedback.cols();
    let rows = x.len() / cols.max(1);
    let mut all_errors = vec![0.0; rows * cols];
    let lower = feedback.lower();
    let mut corrected = vec![0.0; rows * BLOCK];
    for start in (0..cols).step_by(BLOCK) {
        let width = BLOCK.min(cols - start);
        for (c, x) in corrected.chunks_exact_mut(BLOCK).zip(x.chunks_exact(cols)) {
            c[..width].copy_from_slice(&x[start..][..width]);
        }
        if start > 0 {
            let before = View::new(&all_errors, [rows, start], [cols, 1]);
            lower.product(&mut corrected, BLOCK, before, [0, start], [start, start + width], Accumulate::Yes);
        }
        for (row, c) in corrected.chunks_exact(BLOCK).enumerate() {
            rounding.begin(row, start, &c[..width])?;
        }
        for first in (start..start + width).step_by(GROUP) {
            let width = GROUP.min(cols - first);
            if first > start {
                let before = View::new(&all_errors[start..], [rows, first - start], [cols, 1]);
                let (out, columns) = (&mut corrected[first - start..], [first, first + width]);
                lower.product(out, BLOCK, before, [start, first], columns, Accumulate::Yes);
            }
            let within = feedback.within(first);
            let costs = padded(&feedback.costs()[first..][..width]);
            for row in 0..rows {
                let target = Target {
                    weights: padded(&x[row * cols + first..][..width]),
                    corrected: padded(&corrected[row * BLOCK + first - start..][..width]),
                    costs,
                    lower: &within,
                };
                let errors = rounding.group(row, first, &target);
                all_errors[row * cols + first..][..width].copy_from_slice(&errors[..width]);
            }
        }
    }
    Ok(all_errors)
}

/// A group's numbers, with zeros for those it lacks.
pub(crate) fn padded(x: &[f32]) -> [f32; GROUP] {
    let mut padded = [0.0; GROUP];
    padded[..x.len()].copy_from_slice(x);
    padded
}
