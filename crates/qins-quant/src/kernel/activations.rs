//! Activations as whole numbers, for the products that are computed in integers.

use rayon::prelude::*;

use super::{Simd, simd::compiled_for_each};

/// Columns that share a step, and whose products are summed as integers.
pub(super) const BLOCK: usize = 256;

/// Largest magnitude of a weight as a whole number.
pub(super) const LARGEST_WEIGHT: f32 = 16_383.0;

/// The magnitudes of a block add up to this at most, so that its products, of weights up to [`LARGEST_WEIGHT`], can be
/// summed in 32 bits in any order: (130 000 + 256/2)·16 383 < 2³¹. (The 256/2 is what rounding may add.)
const LARGEST_SUM: f32 = 130_000.0;

/// Rows of activations, `[m, cols]`: x ≈ step·value, with one step for each block of 256 columns, filled up with zeros.
///
/// The step is the least that keeps values within 16 bits and the sum of their magnitudes within 130 000. Where that sum
/// decides, |x − step·value| ≤ step/2 is a thousandth of the block's mean magnitude; where one outlier does, 1/65534 of it.
pub(super) struct Activations {
    values: Vec<i16>,
    steps: Vec<f32>,
    blocks: usize,
}

impl Activations {
    /// Rounds `x[m, cols]`.
    pub(super) fn new(simd: Simd, x: &[f32], cols: usize) -> Self {
        let (m, blocks) = (x.len() / cols, cols.div_ceil(BLOCK));
        let (mut values, mut steps) = (vec![0; m * blocks * BLOCK], vec![0.0; m * blocks]);
        (values.par_chunks_mut(blocks * BLOCK))
            .zip(steps.par_chunks_mut(blocks))
            .zip(x.par_chunks(cols))
            .for_each(|((values, steps), x)| round_row(simd, x, values, steps));
        Self { values, steps, blocks }
    }

    /// The values and steps of row `i`.
    pub(super) fn row(&self, i: usize) -> (&[i16], &[f32]) {
        let row = i * self.blocks..(i + 1) * self.blocks;
        (&self.values[row.start * BLOCK..row.end * BLOCK], &self.steps[row])
    }

    /// All values from block `b` of the first row on.
    pub(super) fn values_from(&self, b: usize) -> &[i16] {
        &self.values[b * BLOCK..]
    }

    /// One step for each block, row by row.
    pub(super) fn steps(&self) -> &[f32] {
        &self.steps
    }

    /// Rows.
    pub(super) fn rows(&self) -> usize {
        self.steps.len() / self.blocks
    }

    /// Blocks of a row.
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }
}

/// `x` rounded to a whole number of 16 bits, to nearest even: added to 1.5·2²³, whose ulp is 1, it stands in the low bits.
/// It must be one that 16 bits hold.
#[inline(always)]
pub(super) fn whole(x: f32) -> i16 {
    (x + 12_582_912.0).to_bits() as i16
}

compiled_for_each! {
    fn round_row(x: &[f32], values: &mut [i16], steps: &mut [f32]) = round_row_inlined
}

#[inline(always)]
fn round_row_inlined(x: &[f32], values: &mut [i16], steps: &mut [f32]) {
    for ((x, values), step) in x.chunks(BLOCK).zip(values.chunks_exact_mut(BLOCK)).zip(steps) {
        let (mut largest, mut sum) = ([0.0_f32; 16], [0.0_f32; 16]);
        for x in x.chunks(16) {
            for ((largest, sum), x) in largest.iter_mut().zip(&mut sum).zip(x) {
                *largest = largest.max(x.abs());
                *sum += x.abs();
            }
        }
        let largest = largest.iter().fold(0.0_f32, |a, b| a.max(*b));
        let sum: f32 = sum.iter().sum();
        *step = (largest / f32::from(i16::MAX)).max(sum / LARGEST_SUM);
        if sum.is_nan() {
            // The larger of a number and NaN is the number.
            *step = f32::NAN;
        } else if *step < f32::MIN_POSITIVE {
            // Too small to divide by, and to matter: less than 10⁻³³ in all.
            *step = 0.0;
            continue;
        }
        // Of infinities the quotients are 0 or NaN, and whatever is made of that, times an infinite step, is none.
        let inverse = 1.0 / *step;
        for (value, x) in values.iter_mut().zip(x) {
            *value = whole(x * inverse);
        }
    }
}
