//! The second moments of activations.

use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::float::many;
use super::{
    Simd,
    gemm::{Accumulate, View, product},
};

/// Columns and rows of a tile that is summed at a time.
const TILE: usize = 128;

/// Rows whose products are summed in `f32` before they are added to the sums in `f64`.
const ROWS: usize = 256;

/// Adds Σ xᵢ·xⱼ over the rows of `x[n, cols]` to the upper triangle of `sums[cols, cols]`, and to some of what is below it.
///
/// # Panics
/// When the length of a slice does not match.
pub(crate) fn add_moments(x: &[f32], cols: usize, sums: &mut [f64]) {
    add_moments_on(Simd::get(), x, cols, sums);
}

fn add_moments_on(simd: Simd, x: &[f32], cols: usize, sums: &mut [f64]) {
    assert!(x.len().is_multiple_of(cols) && sums.len() == cols * cols, "add_moments: lengths match {cols} columns");
    for x in x.chunks(ROWS * cols) {
        #[cfg(target_arch = "x86_64")]
        if simd.fuses_floats() {
            const { assert!(ROWS <= many::MOMENTS) };
            many::add_moments(simd, x, cols, sums);
            continue;
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = simd;
        add_by_tiles(x, cols, sums);
    }
}

fn add_by_tiles(x: &[f32], cols: usize, sums: &mut [f64]) {
    let n = x.len() / cols;
    let columns = |first: usize| View::new(&x[first..], [n, TILE.min(cols - first)], [cols, 1]);
    sums.par_chunks_mut(TILE * cols).enumerate().for_each_init(
        || vec![0.0_f32; TILE * TILE],
        |tile, (i, sums)| {
            let left = columns(i * TILE).transposed();
            for first in (i * TILE..cols).step_by(TILE) {
                product(tile, TILE, left, columns(first), Accumulate::No);
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

    /// The largest difference of the sums over `x` from those over `exact`, in `f64`, in the upper triangle.
    fn largest_error(simd: Simd, x: &[f32], exact: &[f32], cols: usize) -> f64 {
        let mut sums = vec![0.5; cols * cols];
        add_moments_on(simd, x, cols, &mut sums);
        let sum = |i: usize, j: usize| exact.chunks(cols).map(|x| f64::from(x[i]) * f64::from(x[j])).sum::<f64>();
        let pairs = (0..cols).flat_map(|i| (i..cols).map(move |j| (i, j)));
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
                assert!(largest_error(simd, &x, &x, cols) < bound, "{n}×{cols}: {simd}");
                assert!(largest_error(simd, &wrong, &x, cols) > bound, "{n}×{cols}: {simd}");
            }
        }
    }
}
