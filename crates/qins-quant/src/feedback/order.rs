//! The order of a sweep over columns.
//!
//! Dⱼ is the variance of input j given those of the columns after it. Their product does not depend on the order, but their sum does, and it is
//! the error of rounding to one step: it is the smaller the more equal they are. A column is made up for by those after it, so the
//! largest inputs come first (the `act_order` of GPTQ), and what comes last is small by itself.

use rayon::prelude::*;

use super::{Feedback, cholesky};
use crate::kernel::{Accumulate, View, product};

/// Rows and columns of a tile that is computed at a time.
const TILE: usize = 128;

/// Feedback for columns in another order.
#[derive(Clone, Debug)]
pub(crate) struct Ordered {
    /// The columns, in the order of the sweep.
    pub(crate) columns: Vec<usize>,
    /// The feedback for rows in that order.
    pub(crate) feedback: Feedback,
}

impl Ordered {
    /// The columns of `feedback` by the mean squares of their inputs, the largest first; those of equal ones, and all where moments in
    /// that order have no factor, as they are.
    pub(super) fn descending(feedback: &Feedback) -> Self {
        let importance = feedback.importance();
        let mut columns: Vec<usize> = (0..feedback.cols()).collect();
        columns.sort_by(|a, b| importance[*b].total_cmp(&importance[*a]));
        match feedback.reordered(&columns) {
            Some(feedback) => Self { columns, feedback },
            None => Self { columns: (0..feedback.cols()).collect(), feedback: feedback.clone() },
        }
    }

    /// Rows of `numbers` in the order of the sweep.
    pub(crate) fn sorted(&self, numbers: &[f32]) -> Vec<f32> {
        let rows = numbers.chunks_exact(self.columns.len().max(1));
        rows.flat_map(|row| self.columns.iter().map(|column| row[*column])).collect()
    }

    /// Rows of `sorted` in the order of the columns, into `out`.
    pub(crate) fn restore(&self, sorted: &[i32], out: &mut [i32]) {
        let cols = self.columns.len().max(1);
        for (out, sorted) in out.chunks_exact_mut(cols).zip(sorted.chunks_exact(cols)) {
            self.columns.iter().zip(sorted).for_each(|(column, number)| out[*column] = *number);
        }
    }
}

/// The upper triangle, and the tiles it touches, of R·Rᵀ for the rows `row(i)` of R, and then its factor; `None` where it has none.
pub(super) fn factor(n: usize, row: impl Fn(usize) -> Vec<f64> + Sync) -> Option<Vec<f64>> {
    let rows = |first: usize| -> Vec<f64> { (first..n.min(first + TILE)).flat_map(&row).collect() };
    let mut h = vec![0.0; n * n];
    h.par_chunks_mut((TILE * n).max(1)).enumerate().for_each(|(i, h)| {
        let (left, count) = (rows(i * TILE), h.len() / n);
        for first in (i * TILE..n).step_by(TILE) {
            let (right, width) = (rows(first), TILE.min(n - first));
            let right = View::new(&right, [width, n], [n, 1]).transposed();
            product(&mut h[first..], n, View::new(&left, [count, n], [n, 1]), right, Accumulate::No);
        }
    });
    cholesky::upper(&mut h, n)?;
    Some(h)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Effort, Hessian};

    /// Of inputs that share a direction and grow with their column.
    fn feedback(cols: usize) -> Feedback {
        let noise = |i: usize| ((i * 7919 + i * i % 97) % 1013) as f32 / 506.5 - 1.0;
        let input = |i: usize| (noise(i) + 2.0 * noise(i / cols)) * (1 + i % cols) as f32;
        let mut hessian = Hessian::new(cols);
        hessian.add(&(0..900 * cols).map(input).collect::<Vec<_>>()).unwrap();
        hessian.feedback(0.01, Effort::Good).unwrap()
    }

    /// The sum of costs, and the mean of their logarithms.
    fn costs(feedback: &Feedback) -> [f64; 2] {
        let costs: Vec<f64> = feedback.costs().iter().map(|cost| f64::from(*cost) * feedback.unit()).collect();
        [costs.iter().sum(), costs.iter().map(|cost| cost.ln()).sum::<f64>() / costs.len() as f64]
    }

    #[test]
    fn largest_inputs_first_make_the_sum_of_costs_smaller_and_not_their_product() {
        let cols = 200;
        let ascending = feedback(cols);
        let ordered = ascending.descending();
        let [is_sorted, control] = [&ordered.feedback, &ascending].map(|f| f.importance().is_sorted_by(|a, b| a >= b));
        assert!(is_sorted && !control);
        // e·H·eᵀ is the same in both orders, which also says what the units of costs are.
        let errors: Vec<f32> = (0..3 * cols).map(|i| (i as f32 * 0.7).sin()).collect();
        let [given, found] = [ascending.energy(&errors), ordered.feedback.energy(&ordered.sorted(&errors))];
        assert!((found / given - 1.0).abs() < 1e-4, "{found} for {given}");
        let [up, down] = [&ascending, &ordered.feedback].map(costs);
        assert!(down[0] < 0.7 * up[0] && (down[1] - up[1]).abs() < 1e-3, "{down:?} after {up:?}");
        // There and back again.
        let mut inverse = vec![0; cols];
        ordered.columns.iter().enumerate().for_each(|(i, column)| inverse[*column] = i);
        let back = ordered.feedback.reordered(&inverse).unwrap();
        let largest = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let numbers = |feedback: &Feedback| -> Vec<f32> {
            let all = (0..cols).flat_map(|i| (0..cols).map(move |j| [i, j]));
            all.map(|[i, j]| feedback.lower().at(i, j)).collect()
        };
        let apart = |other: &Feedback| {
            [largest(ascending.costs(), other.costs()), largest(&numbers(&ascending), &numbers(other))]
        };
        assert!(apart(&back).iter().all(|apart| *apart < 1e-4), "{:?}", apart(&back));
        assert!(apart(&ordered.feedback).iter().all(|apart| *apart > 0.1), "{:?}", apart(&ordered.feedback));
        // Moments whose costs are too unequal for an `f32` have no factor in another order.
        let unequal = |damping| {
            let mut hessian = Hessian::new(2);
            hessian.add(&[1e-9, 0.0, 0.0, 1e15]).unwrap();
            hessian.feedback(damping, Effort::Good).unwrap().descending().columns.clone()
        };
        assert_eq!((unequal(0.0), unequal(0.1)), (vec![0, 1], vec![1, 0]));
        let (sorted, mut restored) = ([3, 1, 2].repeat(2), vec![0; 6]);
        Ordered { columns: vec![2, 0, 1], feedback: feedback(3) }.restore(&sorted, &mut restored);
        assert_eq!(restored, [1, 2, 3].repeat(2));
    }
}
