//! The second moments of activations: columns are rounded to integers as the rows of an integer product are, and multiplied by one another.

use rayon::prelude::*;

use super::{
    Simd,
    activations::{Activations, BLOCK, With},
    isa::{Compute, Isa, compute},
    panel::{self, PANEL, Products, TILE, Tile, Words},
};

/// Rows whose products are summed in `f32` before they are added to the sums in `f64`, which are half a gigabyte for 8192 columns.
const ROWS: usize = 8 * BLOCK;

/// Panels of columns that are multiplied by the same tiles while these are in a cache, and how many tiles are.
const PANELS: usize = 4;
const TILES: usize = 32;

/// Bound on what rounding costs the sum of products of two columns, squared, as a share of the squares of both: a step is at most a 32639th of a
/// block's norm, and its 256 errors are at most half of it. Independent errors cost about 10⁻¹⁰.
#[cfg(test)]
pub(crate) const MOMENTS_NMSE: f64 = 2.5e-7;

/// A matrix `[n, cols]` by its row-major indices.
pub(crate) trait Numbers: Fn(usize) -> f32 + Sync {}

impl<F: Fn(usize) -> f32 + Sync> Numbers for F {}

/// Adds Σ xᵢ·xⱼ over the rows of `x[n, cols]` to the upper triangle of `sums[cols, cols]`, and to some of what is below it. Their squared
/// error is below 2.5·10⁻⁷·‖xᵢ‖²·‖xⱼ‖², and they have the same bits on every instruction set.
///
/// # Panics
/// When `sums` has another length.
pub(crate) fn add_moments(x: impl Numbers, shape: [usize; 2], sums: &mut [f64]) {
    add_on(Simd::get(), &x, &x, shape, sums, true);
}

/// Adds Σ aᵢ·bⱼ over the rows of `a` and `b`, `[n, cols]`, to `sums[cols, cols]`, as precise as [`add_moments`].
///
/// # Panics
/// When `sums` has another length.
pub(crate) fn add_outer_products(a: impl Numbers, b: impl Numbers, shape: [usize; 2], sums: &mut [f64]) {
    add_on(Simd::get(), &a, &b, shape, sums, false);
}

/// All, or the `upper` triangle.
fn add_on(simd: Simd, a: &impl Numbers, b: &impl Numbers, [n, cols]: [usize; 2], sums: &mut [f64], upper: bool) {
    assert!(sums.len() == cols * cols, "moments of {cols} columns");
    for first in (0..n).step_by(ROWS) {
        let n = ROWS.min(n - first);
        let b = columns(simd, b, [first, n], cols);
        let tiles = panel::tiles(&b);
        let a = if upper { b } else { columns(simd, a, [first, n], cols) };
        compute(simd, OuterProducts { a, b: tiles, sums, upper });
    }
}

/// The columns of rows `first` to `first + n` of `x`, rounded.
fn columns(simd: Simd, x: &impl Numbers, [first, n]: [usize; 2], cols: usize) -> Activations {
    // Written on all threads, the first time too: that is when the system finds memory for it.
    let mut columns: Vec<f32> = rayon::iter::repeat_n(0.0, n * cols).collect();
    columns.par_chunks_mut(TILE * n).enumerate().for_each(|(t, columns)| {
        for i in 0..n {
            let row = (first + i) * cols + t * TILE;
            columns.iter_mut().skip(i).step_by(n).zip(row..).for_each(|(to, at)| *to = x(at));
        }
    });
    Activations::rounded(simd, With::Activations, &columns, n)
}

/// The products of columns, which are rows here.
struct OuterProducts<'a> {
    a: Activations,
    b: Vec<Tile>,
    sums: &'a mut [f64],
    upper: bool,
}

impl Compute for OuterProducts<'_> {
    fn on(self, isa: impl Isa) {
        let Self { a, b, sums, upper } = self;
        let cols = a.rows();
        let per_block = cols.div_ceil(TILE);
        sums.par_chunks_mut(PANELS * PANEL * cols).enumerate().for_each_init(
            || Scratch::new(per_block),
            |Scratch { words, units, products }, (task, sums)| {
                let first = task * PANELS * PANEL;
                let before = if upper { first / TILE } else { 0 };
                products.iter_mut().for_each(|products| products.fill([[0.0; TILE]; PANEL]));
                for (block, tiles) in b.chunks_exact(per_block).enumerate() {
                    let rows = words.as_flattened_mut().iter_mut().zip(units.as_flattened_mut());
                    for ((words, unit), column) in rows.zip(first..cols) {
                        let row = a.row(column);
                        (*words, *unit) = (row.values[block].0, row.steps[block]);
                    }
                    for (t, tiles) in tiles[before..].chunks(TILES).enumerate() {
                        for ((words, units), products) in words.iter().zip(&*units).zip(&mut *products) {
                            isa.add_products(words, units, tiles, &mut products[before + t * TILES..][..tiles.len()]);
                        }
                    }
                }
                for (i, sums) in sums.chunks_exact_mut(cols).enumerate() {
                    let products = &products[i / PANEL][before..];
                    for (sums, products) in sums[before * TILE..].chunks_mut(TILE).zip(products) {
                        sums.iter_mut().zip(products[i % PANEL]).for_each(|(sum, product)| *sum += f64::from(product));
                    }
                }
            },
        );
    }
}

/// The buffers of a task.
struct Scratch {
    words: Vec<Words>,
    units: [[f32; PANEL]; PANELS],
    products: Vec<Vec<Products>>,
}

impl Scratch {
    fn new(tiles: usize) -> Self {
        let products = vec![vec![[[0.0; TILE]; PANEL]; tiles]; PANELS];
        Self { words: vec![[[0; BLOCK]; PANEL]; PANELS], units: [[0.0; PANEL]; PANELS], products }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sums over `a` and `b`, or the upper triangle of them, on an instruction set.
    fn sums_of(simd: Simd, [a, b]: [&[f32]; 2], cols: usize, upper: bool) -> Vec<f64> {
        let mut sums = vec![0.5; cols * cols];
        add_on(simd, &|i| a[i], &|i| b[i], [a.len() / cols, cols], &mut sums, upper);
        sums.iter_mut()
            .enumerate()
            .for_each(|(ij, sum)| *sum = if upper && ij % cols < ij / cols { 0.0 } else { *sum - 0.5 });
        sums
    }

    /// The largest squared error of Σ aᵢ·bⱼ, which `found` has, by ‖aᵢ‖²·‖bⱼ‖².
    fn largest_error(found: &[f64], [a, b]: [&[f32]; 2], cols: usize, upper: bool) -> f64 {
        let sum = |[a, b]: [&[f32]; 2], i: usize, j: usize| -> f64 {
            a.chunks(cols).zip(b.chunks(cols)).map(|(a, b)| f64::from(a[i]) * f64::from(b[j])).sum()
        };
        let pairs = (0..cols).flat_map(|i| (if upper { i } else { 0 }..cols).map(move |j| (i, j)));
        let error = |(i, j): (usize, usize)| {
            let error = found[i * cols + j] - sum([a, b], i, j);
            error * error / (sum([a, a], i, i) * sum([b, b], j, j))
        };
        pairs.map(error).fold(0.0, f64::max)
    }

    #[test]
    fn moments_are_those_in_f64_and_have_the_same_bits_on_every_instruction_set() {
        for (n, cols) in [(1, 1), (3, 15), (255, 16), (256, 50), (300, 130), (600, 97), (2100, 70)] {
            let x: Vec<f32> = (0..n * cols).map(|i| ((i * 7919 + i * i % 97) % 1013) as f32 / 506.5 - 1.0).collect();
            let other: Vec<f32> = x.iter().rev().map(|x| x + 0.25).collect();
            for (b, upper) in [(&x, true), (&other, false)] {
                let of = |simd, a: &[f32]| sums_of(simd, [a, b], cols, upper);
                let expected = of(Simd::Portable, &x);
                assert!(largest_error(&expected, [&x, b], cols, upper) < MOMENTS_NMSE, "{n}×{cols}");
                for simd in Simd::ALL.into_iter().filter(|simd| simd.is_available()) {
                    assert!(of(simd, &x) == expected, "{n}×{cols}: {simd}");
                }
                // Control: a column that is off by a hundredth of itself.
                let mut wrong = x.clone();
                wrong.iter_mut().step_by(cols).for_each(|x| *x *= 1.01);
                let wrong = sums_of(Simd::Portable, [&wrong, b], cols, false);
                assert!(largest_error(&wrong, [&x, b], cols, upper) > MOMENTS_NMSE, "{n}×{cols}");
            }
        }
    }

    #[test]
    fn largest_sums_fit() {
        // All of one magnitude, whose errors are one too, and one that is as large as all others: the limits of values and of their sums.
        for x in [vec![1.0; BLOCK], [vec![1.0], vec![1.0 / 255.0; BLOCK - 1]].concat(), vec![-1e15; BLOCK]] {
            let expected: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
            for simd in Simd::ALL.into_iter().filter(|simd| simd.is_available()) {
                let [sum] = sums_of(simd, [&x, &x], 1, true)[..] else { panic!("one sum") };
                assert!((sum / expected - 1.0).powi(2) < MOMENTS_NMSE, "{simd}: {sum} for {expected}");
            }
        }
    }

    #[test]
    fn columns_whose_squares_are_too_small_for_a_float_do_not_overflow() {
        let x: Vec<f32> = (0..BLOCK).flat_map(|_| [1e-24, 1.0, 1e-30]).collect();
        for simd in Simd::ALL.into_iter().filter(|simd| simd.is_available()) {
            let mut sums = sums_of(simd, [&x, &x], 3, true);
            assert!((std::mem::take(&mut sums[4]) / BLOCK as f64 - 1.0).abs() < 1e-3, "{simd}");
            assert!(sums.iter().all(|sum| sum.abs() < 1e-15), "{simd}: {sums:?}");
        }
    }

    #[test]
    fn numbers_that_are_not_finite_are_not_lost() {
        for wrong in [f32::NAN, f32::INFINITY] {
            let mut x = vec![1.0; 40 * 3];
            x[7] = wrong;
            assert!(!sums_of(Simd::get(), [&x, &x], 3, true)[4].is_finite());
        }
    }
}
