//! The factor R of a symmetric positive definite matrix: H = R·Rᵀ with R upper triangular.
//!
//! It is the Cholesky factor of H with both axes reversed, computed by blocks of columns. Each row of a block is computed by
//! itself, so the result is the same on any number of threads.

use rayon::prelude::*;

use crate::kernel::{Accumulate, View, product};

/// Columns of a block.
const BLOCK: usize = 64;

/// Rows of a task.
const ROWS: usize = 64;

/// Replaces the lower triangle of `h`, `[n, n]` row-major, by its lower Cholesky factor F, so that h = F·Fᵀ; the upper triangle is
/// neither read nor kept. `None` when a pivot is not a positive number.
fn lower(h: &mut [f64], n: usize) -> Option<()> {
    for first in (0..n).step_by(BLOCK) {
        let end = (first + BLOCK).min(n);
        let width = end - first;
        // The finished columns of the block's own rows; copied, since the rows are updated below.
        let own: Vec<f64> = h[first * n..end * n].chunks_exact(n).flat_map(|row| &row[..first]).copied().collect();
        let own = View::new(&own, [width, first], [first, 1]).transposed();
        h[first * n..].par_chunks_mut(ROWS * n).for_each(|rows| {
            let count = rows.len() / n;
            let mut sums = vec![0.0; count * width];
            product(&mut sums, width, View::new(rows, [count, first], [n, 1]), own, Accumulate::No);
            for (row, sums) in rows.chunks_exact_mut(n).zip(sums.chunks_exact(width)) {
                row[first..end].iter_mut().zip(sums).for_each(|(h, sum)| *h -= sum);
            }
        });
        let (own, below) = h[first * n..].split_at_mut(width * n);
        for j in 0..width {
            let (above, row) = own.split_at_mut(j * n);
            let row = &mut row[first..end];
            substitute(row, j, &|i| &above[i * n + first..][..=i]);
            let pivot = row[j] - row[..j].iter().map(|f| f * f).sum::<f64>();
            if !(pivot > 0.0 && pivot.is_finite()) {
                return None;
            }
            row[j] = pivot.sqrt();
        }
        // What is below times F⁻ᵀ of the block.
        let inverse = inverse(width, |i| &own[i * n + first..][..=i]);
        let inverse = View::new(&inverse, [width; 2], [width, 1]);
        below.par_chunks_mut(ROWS * n).for_each(|rows| {
            let count = rows.len() / n;
            let block: Vec<f64> = rows.chunks_exact(n).flat_map(|row| &row[first..end]).copied().collect();
            product(&mut rows[first..], n, View::new(&block, [count, width], [width, 1]), inverse, Accumulate::No);
        });
    }
    Some(())
}

/// F⁻ᵀ, `[n, n]`; `factor(i)` is row i of F up to its diagonal.
fn inverse<'a>(n: usize, factor: impl Fn(usize) -> &'a [f64]) -> Vec<f64> {
    let mut inverse = vec![0.0; n * n];
    for (i, row) in inverse.chunks_exact_mut(n).enumerate() {
        row[i] = 1.0;
        substitute(row, n, &factor);
    }
    inverse
}

/// Solves x·Fᵀ = row for the first `count` elements, in place; `factor(i)` is row i of F up to its diagonal.
fn substitute<'a>(row: &mut [f64], count: usize, factor: &impl Fn(usize) -> &'a [f64]) {
    for i in 0..count {
        let factor = factor(i);
        let sum: f64 = row[..i].iter().zip(factor).map(|(x, f)| x * f).sum();
        row[i] = (row[i] - sum) / factor[i];
    }
}

/// Replaces the upper triangle of `h`, a symmetric `[n, n]` matrix of which the upper triangle is read, by R, so that h = R·Rᵀ. What is
/// left below the diagonal has no meaning. `None` when the matrix is not positive definite.
pub(crate) fn upper(h: &mut [f64], n: usize) -> Option<()> {
    // Reversed, the upper triangle is the lower one.
    h.reverse();
    lower(h, n)?;
    h.reverse();
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Gram matrix of pseudo-random vectors, with a diagonal that makes it definite.
    fn gram(n: usize) -> Vec<f64> {
        let x: Vec<f64> = (0..2 * n * n).map(|i| ((i * 7919 + i * i * 31) % 1013) as f64 / 506.5 - 1.0).collect();
        let mut h = vec![0.0; n * n];
        for row in x.chunks_exact(n) {
            (0..n * n).for_each(|at| h[at] += row[at / n] * row[at % n]);
        }
        (0..n).for_each(|i| h[i * n + i] += 0.5 + i as f64);
        h
    }

    #[test]
    fn reversed_cholesky_factor_times_its_transpose_is_the_matrix() {
        for n in [1, 2, 63, 64, 65, 150] {
            let h = gram(n);
            let mut r = h.clone();
            upper(&mut r, n).unwrap();
            for i in 0..n {
                for j in i..n {
                    let product: f64 = (j..n).map(|k| r[i * n + k] * r[j * n + k]).sum();
                    assert!((product - h[i * n + j]).abs() < 1e-10 * h[i * n + i].max(1.0), "{n}: ({i}, {j})");
                }
                assert!(r[i * n + i] > 0.0);
            }
        }
    }

    #[test]
    fn matrix_that_is_not_positive_definite_has_no_factor() {
        assert!(upper(&mut [1.0, 2.0, 2.0, 1.0], 2).is_none());
        assert!(upper(&mut [0.0], 1).is_none() && upper(&mut [f64::NAN], 1).is_none());
        assert!(upper(&mut [f64::INFINITY], 1).is_none() && upper(&mut [], 0).is_some());
    }
}
