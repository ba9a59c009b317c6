//! The second moments of activations.

use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::float::many;
use super::{
    Simd,
    gemm::{Accumulate, View, product_on},
};

/// Columns and rows of a tile that is summed at a time.
const TILE: usize = 128;

/// Rows whose products are summed in `f32` before they are added to the sums in `f64`.
const ROWS: usize = 512;

/// Adds Σ xᵢ·xⱼ over the rows of `x[n, cols]` to the upper triangle of `sums[cols, cols]`, and to some of what is below it.
///
/// # Panics
/// When the length of a slice does not match.
pub(crate) fn add_moments(x: &[f32], cols: usize, sums: &mut [f64]) {
    add_on(Simd::get(), [x; 2], cols, sums, true);
}

/// Adds Σ aᵢ·bⱼ over the rows of `a` and `b`, `[n, cols]`, to `sums[cols, cols]`.
///
/// # Panics
/// When the length of a slice does not match.
pub(crate) fn add_outer_products(a: &[f32], b: &[f32], cols: usize, sums: &mut [f64]) {
    add_on(Simd::get(), [a, b], cols, sums, false);
}

/// All, or the `upper` triangle.
fn add_on(simd: Simd, [a, b]: [&[f32]; 2], cols: usize, sums: &mut [f64], upper: bool) {
    let is_whole = a.len().is_multiple_of(cols) && a.len() == b.len() && sums.len() == cols * cols;
    assert!(is_whole, "moments: lengths match {cols} columns");
    for (a, b) in a.chunks(ROWS * cols).zip(b.chunks(ROWS * cols)) {
        #[cfg(target_arch = "x86_64")]
        if simd.fuses_floats() {
            const { assert!(ROWS <= many::MOMENTS) };
            many::add_outer_products(simd, [a, b], cols, sums, upper);
            continue;
        }
        add_by_tiles(simd, [a, b], cols, sums, upper);
    }
}

fn add_by_tiles(simd: Simd, both: [&[f32]; 2], cols: usize, sums: &mut [f64], upper: bool) {
    let n = both[0].len() / cols;
    let tile = |first: usize| [n, TILE.min(cols - first)];
    let columns = |of: usize, first: usize| View::new(&both[of][first..], tile(first), [cols, 1]);
    sums.par_chunks_mut(TILE * cols).enumerate().for_each_init(
        || vec![0.0_f32; TILE * TILE],
        |tile, (i, sums)| {
            let left = columns(0, i * TILE).transposed();
            let before = if upper { i * TILE } else { 0 };
            for first in (before..cols).step_by(TILE) {
                product_on(simd, tile, TILE, left, columns(1, first), Accumulate::No);
                let width = TILE.min(cols - first);
                for (sums, tile) in sums.chunks_exact_mut(cols).zip(tile.chunks_exact(TILE)) {
                    let sums = sums[first..][..width].iter_mut();
                    sums.zip(tile).for_each(|(sum, product)| *sum += f64::from(*product));
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest difference of the sums over `a` and `b` from those over `exact` and `b`, in `f64`, or of the `upper` triangle's.
    fn largest_error(simd: Simd, [a, b, exact]: [&[f32]; 3], cols: usize, upper: bool) -> f64 {
        let mut sums = vec![0.5; cols * cols];
        add_on(simd, [a, b], cols, &mut sums, upper);
        let product = |i: usize, j: usize| move |(a, b): (&[f32], &[f32])| f64::from(a[i]) * f64::from(b[j]);
        let sum = |i: usize, j: usize| exact.chunks(cols).zip(b.chunks(cols)).map(product(i, j)).sum::<f64>();
        let pairs = (0..cols).flat_map(|i| (if upper { i } else { 0 }..cols).map(move |j| (i, j)));
        pairs.map(|(i, j)| (sums[i * cols + j] - 0.5 - sum(i, j)).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn moments_are_those_in_f64_on_every_instruction_set() {
        for (n, cols) in [(1, 1), (3, 15), (255, 16), (256, 50), (300, 130), (600, 97)] {
            let x: Vec<f32> = (0..n * cols).map(|i| ((i * 7919 + i * i % 97) % 1013) as f32 / 506.5 - 1.0).collect();
            let mut wrong = x.clone();
            wrong[0] += 0.1;
            for simd in Simd::ALL.into_iter().filter(|simd| simd.is_available()) {
                let bound = 1e-6 * n as f64;
                assert!(largest_error(simd, [&x, &x, &x], cols, true) < bound, "{n}×{cols}: {simd}");
                assert!(largest_error(simd, [&wrong, &x, &x], cols, true) > bound, "{n}×{cols}: {simd}");
                let other: Vec<f32> = x.iter().rev().map(|x| x + 0.25).collect();
                assert!(largest_error(simd, [&x, &other, &x], cols, false) < bound, "{n}×{cols}: {simd}");
                assert!(largest_error(simd, [&wrong, &other, &x], cols, false) > bound, "{n}×{cols}: {simd}");
            }
        }
    }
}
