//! Errors before a linear, which its weights make up for.
//!
//! Its inputs are x in the plain model and x′ in the encoded one. The weights W′ = W + β·W·C·(H + λI)⁻¹, with C = E[(x − x′)·x′ᵀ], have
//! outputs W′x′ that are nearer to Wx: at β = 1 and with H = E[x′x′ᵀ] they are the least squares.

use rayon::prelude::*;

use super::FEEDBACK_ROWS;
use crate::kernel::{Accumulate, View, product};

/// β. All of it fits the calibration's tokens too closely.
const SHARE: f32 = 0.5;

/// Columns that are solved for together.
const BLOCK: usize = 64;

/// C, `[cols, cols]` row-major, in units of the largest cost.
#[derive(Clone, PartialEq)]
pub(super) struct Drift(Vec<f32>);

impl Drift {
    pub(super) fn new(drift: &[f64], unit: f64) -> Self {
        Self(drift.iter().map(|c| (c / unit) as f32).collect())
    }

    /// W′ for rows W, with H + λI = L·D·Lᵀ: L above its unit diagonal in `lower`, `[cols, cols]`, and D in `costs`.
    pub(super) fn corrected(&self, weights: &[f32], lower: &[f32], costs: &[f32]) -> Vec<f32> {
        let cols = costs.len();
        let mut corrected = weights.to_vec();
        corrected.par_chunks_mut((FEEDBACK_ROWS * cols).max(1)).for_each(|rows| {
            let n = rows.len() / cols;
            let mut y = vec![0.0; rows.len()];
            let drift = View::new(&self.0, [cols; 2], [cols, 1]);
            product(&mut y, cols, View::new(rows, [n, cols], [cols, 1]), drift, Accumulate::No);
            let lower = Lower { lower, cols };
            lower.solve_transposed(&mut y);
            for y in y.chunks_exact_mut(cols) {
                y.iter_mut().zip(costs).for_each(|(y, cost)| *y /= cost);
            }
            lower.solve(&mut y);
            rows.iter_mut().zip(y).for_each(|(w, y)| *w += SHARE * y);
        });
        corrected
    }
}

/// L.
struct Lower<'a> {
    lower: &'a [f32],
    cols: usize,
}

impl Lower<'_> {
    /// Rows y with y·Lᵀ = rows, in place: from the last column to the first.
    fn solve_transposed(&self, rows: &mut [f32]) {
        let (cols, n) = (self.cols, rows.len() / self.cols);
        // −y of the columns that are solved.
        let mut solved = vec![0.0; rows.len()];
        for start in (0..cols).step_by(BLOCK).rev() {
            let end = cols.min(start + BLOCK);
            if end < cols {
                let after = View::new(&solved[end..], [n, cols - end], [cols, 1]);
                let lower = View::new(&self.lower[start * cols + end..], [end - start, cols - end], [cols, 1]);
                product(&mut rows[start..], cols, after, lower.transposed(), Accumulate::Yes);
            }
            for (row, solved) in rows.chunks_exact_mut(cols).zip(solved.chunks_exact_mut(cols)) {
                for j in (start..end).rev() {
                    let lower = &self.lower[j * cols..][j + 1..end];
                    let sum: f32 = row[j + 1..end].iter().zip(lower).map(|(y, l)| y * l).sum();
                    row[j] -= sum;
                    solved[j] = -row[j];
                }
            }
        }
    }

    /// Rows y with y·L = rows, in place: from the first column to the last.
    fn solve(&self, rows: &mut [f32]) {
        let (cols, n) = (self.cols, rows.len() / self.cols);
        let mut solved = vec![0.0; rows.len()];
        for start in (0..cols).step_by(BLOCK) {
            let end = cols.min(start + BLOCK);
            if start > 0 {
                let before = View::new(&solved, [n, start], [cols, 1]);
                let lower = View::new(&self.lower[start..], [start, end - start], [cols, 1]);
                product(&mut rows[start..], cols, before, lower, Accumulate::Yes);
            }
            for (row, solved) in rows.chunks_exact_mut(cols).zip(solved.chunks_exact_mut(cols)) {
                for i in start..end {
                    let y = row[i];
                    solved[i] = -y;
                    let lower = &self.lower[i * cols..][i + 1..end];
                    row[i + 1..end].iter_mut().zip(lower).for_each(|(later, l)| *later -= y * l);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Effort, Hessian};

    fn noise(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| (((i + seed) * 7919 + i * i % 97) % 1013) as f32 / 506.5 - 1.0).collect()
    }

    /// x of the dense system x·A = b, by elimination in `f64`; A is symmetric and positive definite.
    fn solve(a: &[f64], b: &[f64]) -> Vec<f64> {
        let n = b.len();
        let (mut a, mut x) = (a.to_vec(), b.to_vec());
        for k in 0..n {
            for i in k + 1..n {
                let factor = a[i * n + k] / a[k * n + k];
                (k..n).for_each(|j| a[i * n + j] -= factor * a[k * n + j]);
                x[i] -= factor * x[k];
            }
        }
        for k in (0..n).rev() {
            let rest: f64 = (k + 1..n).map(|j| a[k * n + j] * x[j]).sum();
            x[k] = (x[k] - rest) / a[k * n + k];
        }
        x
    }

    #[test]
    fn corrected_weights_are_those_of_a_dense_solution() {
        let (rows, cols, n) = (70, 150, 400);
        let shared = noise(n, 3);
        let plain: Vec<f32> = noise(n * cols, 1).iter().enumerate().map(|(i, x)| x + 2.0 * shared[i / cols]).collect();
        let encoded: Vec<f32> = plain.iter().zip(noise(n * cols, 2)).map(|(x, e)| 0.9 * x + 0.1 * e).collect();
        let weights = noise(rows * cols, 4);
        let corrected = |encoded: &[f32]| {
            let mut moments = Hessian::new(cols);
            moments.add_pair(&plain, encoded).unwrap();
            moments.feedback(0.1, Effort::Good).unwrap().corrected(&weights).unwrap()
        };
        let found = corrected(&encoded);
        // H of both, C, and W + ½·W·C·(H + λI)⁻¹ as they are defined.
        let mean = |f: &dyn Fn(usize) -> f64| (0..n).map(f).sum::<f64>() / n as f64;
        let at = |x: &[f32], t: usize, i: usize| f64::from(x[t * cols + i]);
        let (mut h, mut c) = (vec![0.0; cols * cols], vec![0.0; cols * cols]);
        for (i, j) in (0..cols * cols).map(|ij| (ij / cols, ij % cols)) {
            let both = |t| at(&plain, t, i) * at(&plain, t, j) + at(&encoded, t, i) * at(&encoded, t, j);
            h[i * cols + j] = 0.5 * mean(&both);
            c[i * cols + j] = mean(&|t| (at(&plain, t, i) - at(&encoded, t, i)) * at(&encoded, t, j));
        }
        let damping = 0.1 * (0..cols).map(|i| h[i * (cols + 1)]).sum::<f64>() / cols as f64;
        (0..cols).for_each(|i| h[i * (cols + 1)] += damping);
        let largest = |found: &[f32]| {
            let (mut error, mut change) = (0.0_f64, 0.0_f64);
            for (w, found) in weights.chunks_exact(cols).zip(found.chunks_exact(cols)) {
                let wc: Vec<f64> =
                    (0..cols).map(|j| (0..cols).map(|i| f64::from(w[i]) * c[i * cols + j]).sum()).collect();
                for ((w, found), y) in w.iter().zip(found).zip(solve(&h, &wc)) {
                    error = error.max((f64::from(*found) - f64::from(*w) - 0.5 * y).abs());
                    change = change.max((0.5 * y).abs());
                }
            }
            error / change
        };
        assert!(largest(&found) < 1e-4, "{}", largest(&found));
        // Control: other inputs of the encoded model.
        let other: Vec<f32> = encoded.iter().zip(&plain).map(|(x, p)| 1.05 * x - 0.05 * p).collect();
        assert!(largest(&corrected(&other)) > 1e-2);
        assert_eq!(corrected(&plain), weights, "nothing to make up for");
        // Rows that are encoded together are computed together, however many are given.
        let mut moments = Hessian::new(cols);
        moments.add_pair(&plain, &encoded).unwrap();
        let feedback = moments.feedback(0.1, Effort::Good).unwrap();
        let parts = weights.split_at(64 * cols);
        assert_eq!([parts.0, parts.1].map(|rows| feedback.corrected(rows).unwrap()).concat(), found);
        // Mixed with itself it is the same, whatever the numbers of inputs; with others it is not.
        let mixed = |other: &[f32]| {
            let [mut moments, mut others] = [(); 2].map(|()| Hessian::new(cols));
            moments.add_pair(&plain, &encoded).unwrap();
            (0..3).for_each(|_| others.add_pair(&plain, other).unwrap());
            moments.mix(&others, 0.3).unwrap();
            largest(&moments.feedback(0.1, Effort::Good).unwrap().corrected(&weights).unwrap())
        };
        assert!(mixed(&encoded) < 1e-4 && mixed(&other) > 1e-2, "{}, {}", mixed(&encoded), mixed(&other));
        let mut one = Hessian::new(cols);
        one.add(&plain).unwrap();
        assert_eq!(one.feedback(0.1, Effort::Good).unwrap().corrected(&weights), None);
        assert!(one.add_pair(&plain, &encoded[cols..]).is_err());
    }
}
