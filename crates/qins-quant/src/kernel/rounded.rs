//! The product of floats in integers: weights and activations are rounded as the columns of moments are. It takes less time than
//! one in `f32`, whose precision a calibration does not need.

use super::{
    Rows, Simd,
    activations::{Activations, BLOCK, Block, With, round_row},
    isa::{Compute, Isa, compute},
    panel::{self, PANEL, Words},
};

/// `y[m, rows] = x[m, cols] · wᵀ` of any weights, with both rounded to 16 bits, one step for each block of 256 columns of a row. The squared error is
/// below 2.5·10⁻⁷·‖w‖²·‖x‖² for each number, as that of moments, and the normalised mean squared error below 5·10⁻⁸ without outliers. It has the same bits on every instruction set and for any number of threads.
///
/// # Panics
/// When the length of a slice does not match the shape.
pub fn linear_rounded(w: Rows<'_>, shape: [usize; 2], x: &[f32], y: &mut [f32]) {
    rounded_on(Simd::get(), w, shape, x, y);
}

/// On `simd`, which this machine has.
fn rounded_on(simd: Simd, w: Rows<'_>, [rows, cols]: [usize; 2], x: &[f32], y: &mut [f32]) {
    if rows == 0 || cols == 0 {
        return y.fill(0.0);
    }
    let m = x.len() / cols;
    assert_eq!((x.len(), y.len()), (m * cols, m * rows), "linear: input or output does not fit [{rows}, {cols}]");
    if m > 0 {
        compute(simd, Rounded { w, shape: [rows, cols], x, y });
    }
}

struct Rounded<'a> {
    w: Rows<'a>,
    /// `[rows, cols]`.
    shape: [usize; 2],
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Compute for Rounded<'_> {
    fn on(self, isa: impl Isa) {
        let Self { w, shape: [rows, cols], x, y } = self;
        product(isa, w, [rows, cols], x, y);
    }
}

/// The buffers of a thread.
struct Scratch {
    floats: Vec<f32>,
    /// Of a row, one for each block.
    values: Vec<Vec<Block>>,
    steps: Vec<Vec<f32>>,
    words: Box<Words>,
    units: [f32; PANEL],
}

fn product<I: Isa>(isa: I, w: Rows<'_>, [rows, cols]: [usize; 2], x: &[f32], y: &mut [f32]) {
    let x = Activations::rounded(I::SIMD, With::Activations, x, cols);
    let (blocks, tiles) = (x.blocks(), panel::tiles(&x));
    let scratch = || Scratch {
        floats: Vec::new(),
        values: vec![vec![Block([0; BLOCK]); blocks]; PANEL],
        steps: vec![vec![0.0; blocks]; PANEL],
        words: Box::new([[0; BLOCK]; PANEL]),
        units: [0.0; PANEL],
    };
    panel::by_panels(rows, x.rows(), y, scratch, |scratch, rows, products| {
        let Scratch { floats, values, steps, words, units } = scratch;
        let floats = w.tile(I::SIMD, rows.start, rows.len(), cols, floats);
        for ((w, values), steps) in floats.chunks_exact(cols).zip(&mut *values).zip(&mut *steps) {
            round_row(I::SIMD, With::Activations, w, values, steps);
        }
        for (b, tiles) in tiles.chunks_exact(products.len()).enumerate() {
            for (((words, unit), values), steps) in words.iter_mut().zip(&mut *units).zip(&*values).zip(&*steps) {
                (*words, *unit) = (values[b].0, steps[b]);
            }
            isa.add_products(words, units, tiles, products);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{MOMENTS_NMSE, naive};

    fn numbers(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| (((i + seed) * 7919 + i * i % 97) % 1013) as f32 / 506.5 - 1.0).collect()
    }

    /// The bound for each number, by the norms of its row of weights and of activations.
    const BOUND: f64 = MOMENTS_NMSE;

    /// Bound on the mean squared error divided by the mean square of the product: a step is a 2893rd of the root mean square of a whole block, and costs a
    /// twelfth of its square, 10⁻⁸, on both sides.
    const NMSE: f64 = 5e-8;

    #[test]
    fn mean_squared_error_is_that_of_the_steps() {
        let [m, rows, cols] = [40, 96, 1024];
        let (w, x) = (numbers(rows * cols, 5), numbers(m * cols, 2));
        let exact = naive(Rows::Dense(&w), [rows, cols], &x);
        let nmse = |w: &[f32]| {
            let mut y = vec![0.0; m * rows];
            linear_rounded(Rows::Dense(w), [rows, cols], &x, &mut y);
            let error: f64 = y.iter().zip(&exact).map(|(y, exact)| (f64::from(*y) - exact).powi(2)).sum();
            error / exact.iter().map(|exact| exact * exact).sum::<f64>()
        };
        assert!(nmse(&w) < NMSE, "{}", nmse(&w));
        // Control: weights that are off by a thousandth of themselves.
        let wrong: Vec<f32> = w.iter().map(|w| 1.001 * w).collect();
        assert!(nmse(&wrong) > NMSE, "{}", nmse(&wrong));
    }

    #[test]
    fn product_is_that_in_f64_and_has_the_same_bits_on_every_instruction_set() {
        for (m, rows, cols) in [(1, 1, 1), (3, 40, 15), (16, 32, 256), (17, 70, 300), (40, 33, 700)] {
            let (w, x) = (numbers(rows * cols, 5), numbers(m * cols, 2));
            // With an outlier, and a row of zeros.
            let x: Vec<f32> = x.into_iter().enumerate().map(|(i, x)| if i == cols / 2 { 40.0 } else { x }).collect();
            let w: Vec<f32> = w
                .into_iter()
                .enumerate()
                .map(|(i, w)| if i / cols == rows / 2 && rows > 1 { 0.0 } else { w })
                .collect();
            let norm = |row: &[f32]| row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
            let on = |simd, w: &[f32]| {
                let mut y = vec![f32::NAN; m * rows];
                rounded_on(simd, Rows::Dense(w), [rows, cols], &x, &mut y);
                y
            };
            let largest = |y: &[f32]| {
                let exact = naive(Rows::Dense(&w), [rows, cols], &x);
                let errors = y.iter().zip(exact).enumerate().map(|(i, (y, exact))| {
                    let bound = norm(&x[i / rows * cols..][..cols]) * norm(&w[i % rows * cols..][..cols]);
                    (f64::from(*y) - exact).powi(2) / bound.max(f64::MIN_POSITIVE)
                });
                errors.fold(0.0, f64::max)
            };
            let found = on(Simd::Portable, &w);
            assert!(largest(&found) < BOUND, "{m}×{rows}×{cols}: {}", largest(&found));
            for simd in Simd::ALL.into_iter().filter(|simd| simd.is_available()) {
                assert!(on(simd, &w) == found, "{m}×{rows}×{cols}: {simd}");
            }
            // Control: weights that are off by a hundredth of themselves.
            let wrong: Vec<f32> = w.iter().map(|w| 1.01 * w).collect();
            assert!(largest(&on(Simd::Portable, &wrong)) > BOUND, "{m}×{rows}×{cols}");
            // Bytes of a 16-bit type give what their decoded weights give.
            let words: Vec<u16> = w.iter().map(|w| (w.to_bits() >> 16) as u16).collect();
            let decoded: Vec<f32> = words.iter().map(|word| f32::from_bits(u32::from(*word) << 16)).collect();
            let mut y = vec![0.0; m * rows];
            linear_rounded(Rows::Half { words: &words, stride: cols, bf16: true }, [rows, cols], &x, &mut y);
            assert!(y == on(Simd::Portable, &decoded));
        }
        linear_rounded(Rows::Dense(&[]), [0, 3], &[1.0; 6], &mut []);
    }

    #[test]
    fn numbers_that_are_not_finite_are_not_lost() {
        for wrong in [f32::NAN, f32::INFINITY] {
            let (mut w, mut x) = (vec![1.0; 2 * 300], vec![1.0; 2 * 300]);
            let of = |w: &[f32], x: &[f32]| {
                let mut y = vec![0.0; 4];
                linear_rounded(Rows::Dense(w), [2, 300], x, &mut y);
                y.iter().map(|y| y.is_finite()).collect::<Vec<bool>>()
            };
            x[7] = wrong;
            assert_eq!(of(&w, &x), [false, false, true, true]);
            (w[290], x[7]) = (wrong, 1.0);
            assert_eq!(of(&w, &x), [false, true, false, true]);
        }
    }

    #[test]
    fn largest_sums_fit() {
        for row in
            [vec![1.0; 2 * BLOCK], [vec![1.0], vec![1.0 / 255.0; 2 * BLOCK - 1]].concat(), vec![-1e15; 2 * BLOCK]]
        {
            let exact: f64 = row.iter().map(|x| f64::from(*x).powi(2)).sum();
            for simd in Simd::ALL.into_iter().filter(|simd| simd.is_available()) {
                let mut y = [0.0];
                rounded_on(simd, Rows::Dense(&row), [1, row.len()], &row, &mut y);
                assert!((f64::from(y[0]) / exact - 1.0).powi(2) < BOUND, "{simd}: {y:?} for {exact}");
            }
        }
    }
}
