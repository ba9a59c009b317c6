//! Errors before a linear, which its weights make up for.
//!
//! Its inputs are x in the plain model and x′ in the encoded one. The weights W′ = W + β·W·C·(H + λI)⁻¹, with C = E[(x − x′)·x′ᵀ], have
//! outputs W′x′ that are nearer to Wx: at β = 1 and with H = E[x′x′ᵀ] they are the least squares.

use rayon::prelude::*;

use super::FEEDBACK_ROWS;
use crate::kernel::{Accumulate, Prepared, View, product};

/// β. All of it fits the calibration's tokens too closely.
const SHARE: f32 = 0.5;

/// Columns that are solved for together.
const BLOCK: usize = Prepared::ROWS;

/// Rows that are corrected together. All of C and of the factor is read for them.
pub(crate) const ROWS: usize = 2 * FEEDBACK_ROWS;

/// C and what solving takes, beside L and D.
#[derive(Clone, PartialEq)]
pub(super) struct Drift {
    /// C, `[cols, cols]`, in units of the largest cost.
    c: Prepared,
    /// Lᵀ without its unit diagonal, where H + λI = L·D·Lᵀ.
    transposed: Prepared,
    /// The inverse of each block on the diagonal of L, row-major.
    inverses: Vec<Vec<f32>>,
}

impl Drift {
    /// `lower` is L above its unit diagonal.
    pub(super) fn new(drift: &[f64], unit: f64, lower: &Prepared) -> Self {
        let cols = drift.len().isqrt();
        let c = Prepared::new([cols; 2], |i, first, out| {
            out.iter_mut().zip(&drift[i * cols + first..]).for_each(|(out, c)| *out = (c / unit) as f32);
        });
        let starts: Vec<usize> = (0..cols).step_by(BLOCK).collect();
        let inverse = |start: usize| inverse(lower, start, cols.min(start + BLOCK));
        Self { c, transposed: lower.transposed(), inverses: starts.into_par_iter().map(inverse).collect() }
    }

    /// W′ for rows W, with L and D, which is `costs`.
    pub(super) fn corrected(&self, weights: &[f32], lower: &Prepared, costs: &[f32]) -> Vec<f32> {
        let cols = costs.len();
        let mut corrected = weights.to_vec();
        corrected.par_chunks_mut((ROWS * cols).max(1)).for_each(|rows| {
            let n = rows.len() / cols;
            let mut y = vec![0.0; rows.len()];
            let left = View::new(rows, [n, cols], [cols, 1]);
            self.c.product(&mut y, cols, left, [0, cols], [0, cols], Accumulate::No);
            // y·Lᵀ⁻¹, from the last column to the first.
            for (b, inverse) in self.inverses.iter().enumerate().rev() {
                let (start, end) = (b * BLOCK, cols.min((b + 1) * BLOCK));
                let inverse = View::new(inverse, [end - start; 2], [end - start, 1]);
                step(&mut y, cols, [start, end], [end, cols], &self.transposed, inverse.transposed());
            }
            for y in y.chunks_exact_mut(cols) {
                y.iter_mut().zip(costs).for_each(|(y, cost)| *y /= cost);
            }
            // y·L⁻¹, from the first column to the last.
            for (b, inverse) in self.inverses.iter().enumerate() {
                let (start, end) = (b * BLOCK, cols.min((b + 1) * BLOCK));
                let inverse = View::new(inverse, [end - start; 2], [end - start, 1]);
                step(&mut y, cols, [start, end], [0, start], lower, inverse);
            }
            rows.iter_mut().zip(y).for_each(|(w, y)| *w += SHARE * y);
        });
        corrected
    }
}

/// Solves for the columns of a block of `rows[n, cols]` with those that are `known`.
fn step(
    rows: &mut [f32],
    cols: usize,
    block: [usize; 2],
    known: [usize; 2],
    factor: &Prepared,
    inverse: View<'_, f32>,
) {
    let (n, width) = (rows.len() / cols, block[1] - block[0]);
    // Less what is known gives.
    let mut left = vec![0.0; n * width];
    if known[0] < known[1] {
        let known_rows = View::new(rows, [n, cols], [cols, 1]).part([0, n], known);
        factor.product(&mut left, width, known_rows, known, block, Accumulate::No);
    }
    for (left, row) in left.chunks_exact_mut(width).zip(rows.chunks_exact(cols)) {
        left.iter_mut().zip(&row[block[0]..]).for_each(|(left, row)| *left = row - *left);
    }
    product(&mut rows[block[0]..], cols, View::new(&left, [n, width], [width, 1]), inverse, Accumulate::No);
}

/// The inverse of the rows and columns of L from `start` to `end`.
fn inverse(lower: &Prepared, start: usize, end: usize) -> Vec<f32> {
    let n = end - start;
    let (mut inverse, mut row) = (vec![0.0_f32; n * n], vec![0.0; n]);
    for i in (0..n).rev() {
        lower.copy_row(start + i, start, &mut row);
        // Less Lᵢⱼ times the rows j after it.
        let (own, after) = inverse[i * n..].split_at_mut(n);
        own[i] = 1.0;
        for (l, row) in row[i + 1..].iter().zip(after.chunks_exact(n)) {
            own.iter_mut().zip(row).for_each(|(own, row)| *own -= l * row);
        }
    }
    inverse
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
        let (rows, cols, n) = (260, 300, 400);
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
        // H of the mean of both, C, and W + ½·W·C·(H + λI)⁻¹ as they are defined.
        let mean = |f: &dyn Fn(usize) -> f64| (0..n).map(f).sum::<f64>() / n as f64;
        let at = |x: &[f32], t: usize, i: usize| f64::from(x[t * cols + i]);
        let (mut h, mut c) = (vec![0.0; cols * cols], vec![0.0; cols * cols]);
        for (i, j) in (0..cols * cols).map(|ij| (ij / cols, ij % cols)) {
            let middle = |t, i| 0.5 * (at(&plain, t, i) + at(&encoded, t, i));
            h[i * cols + j] = mean(&|t| middle(t, i) * middle(t, j));
            c[i * cols + j] = mean(&|t| (at(&plain, t, i) - at(&encoded, t, i)) * at(&encoded, t, j));
        }
        let sums = |of: &[f64]| of.iter().map(|mean| mean * n as f64).collect::<Vec<f64>>();
        let exact = Hessian::of_sums(cols, n, sums(&h), sums(&c));
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
        let from_exact = exact.feedback(0.1, Effort::Good).unwrap().corrected(&weights).unwrap();
        assert!(largest(&from_exact) < 1e-4, "{}", largest(&from_exact));
        // Rounding the inputs costs this much where C is a hundredth of H.
        assert!(largest(&found) < 4e-3, "{}", largest(&found));
        // Control: other inputs of the encoded model.
        let other: Vec<f32> = encoded.iter().zip(&plain).map(|(x, p)| 1.05 * x - 0.05 * p).collect();
        assert!(largest(&corrected(&other)) > 1e-2);
        assert_eq!(corrected(&plain), weights, "nothing to make up for");
        // Rows that are corrected together are computed together, however many are given.
        let mut moments = Hessian::new(cols);
        moments.add_pair(&plain, &encoded).unwrap();
        let feedback = moments.feedback(0.1, Effort::Good).unwrap();
        let parts = weights.split_at(super::ROWS * cols);
        assert_eq!([parts.0, parts.1].map(|rows| feedback.corrected(rows).unwrap()).concat(), found);
        // Mixed with itself it is the same, whatever the numbers of inputs; with others it is not.
        let mixed = |other: &[f32]| {
            let [mut moments, mut others] = [(); 2].map(|()| Hessian::new(cols));
            moments.add_pair(&plain, &encoded).unwrap();
            (0..3).for_each(|_| others.add_pair(&plain, other).unwrap());
            moments.mix(&others, 0.3).unwrap();
            largest(&moments.feedback(0.1, Effort::Good).unwrap().corrected(&weights).unwrap())
        };
        assert!(mixed(&encoded) < 4e-3 && mixed(&other) > 1e-2, "{}, {}", mixed(&encoded), mixed(&other));
        let mut one = Hessian::new(cols);
        one.add(&plain).unwrap();
        assert_eq!(one.feedback(0.1, Effort::Good).unwrap().corrected(&weights), None);
        assert!(one.add_pair(&plain, &encoded[cols..]).is_err());
    }
}
