//! The second moments of a linear's inputs.

use rayon::prelude::*;

use super::{Effort, Feedback, cholesky};
use crate::kernel::{add_moments, add_outer_products};

/// The share of the mean of the diagonal that a column without inputs gets.
const DEAD: f64 = 1e-6;

/// The second moments of a linear's inputs, `E[xxᵀ]`, as sums in `f64`: the Hessian of the output's squared error, up to a factor.
///
/// ```
/// use qins_quant::{EncodedTensor, Effort, EncodeOptions, Hessian, Recipe, Scheme};
///
/// // 600 inputs of 64 channels that depend on each other.
/// let inputs: Vec<f32> = (0..600 * 64).map(|i| ((i / 64 * 37 + i % 64 / 4 * 11) as f32).sin()).collect();
/// let mut hessian = Hessian::new(64);
/// hessian.add(&inputs)?;
/// let feedback = hessian.feedback(0.1, Effort::Good)?;
///
/// let weights: Vec<f32> = (0..8 * 64).map(|i| ((i * i) as f32).sin() / 50.0).collect();
/// let error = |recipe: &Recipe| {
///     let encoded = EncodedTensor::encode_as(&weights, [8, 64], qins_quant::FloatDtype::F32, recipe).unwrap();
///     let errors: Vec<f32> = encoded.decode().iter().zip(&weights).map(|(q, w)| q - w).collect();
///     hessian.energy(&errors)
/// };
/// let plain = Recipe::from(Scheme::Q4);
/// let with_feedback = Recipe { feedback: Some(feedback.into()), ..plain.clone() };
/// assert!(error(&with_feedback) < 0.5 * error(&plain));
/// # Ok::<(), qins_quant::HessianError>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct Hessian {
    cols: usize,
    inputs: usize,
    /// `[cols, cols]` row-major; only the upper triangle, and some of what is below it, are summed.
    sums: Vec<f64>,
    /// Σ (x − x′)·x′ᵀ over pairs, `[cols, cols]`; empty without pairs.
    drift: Vec<f64>,
}

/// Second moments that cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HessianError {
    /// The numbers are not a whole number of rows.
    #[error("expected rows of {cols} inputs, found {found} numbers")]
    Length {
        /// The number of columns.
        cols: usize,
        /// The number of numbers.
        found: usize,
    },
    /// Moments of another number of columns.
    #[error("expected moments of {expected} columns, found {found}")]
    Columns {
        /// The number of columns.
        expected: usize,
        /// The other number.
        found: usize,
    },
    /// There are no inputs.
    #[error("expected at least one input, found none")]
    Empty,
    /// An input was so large that a mean square is not finite, or was not finite itself.
    #[error("expected finite mean squares of inputs, found {found} in channel {channel}")]
    NotFinite {
        /// The first such column.
        channel: usize,
        /// Its mean square.
        found: f64,
    },
    /// A share or factor is out of its range.
    #[error("expected {name} {range}, found {found}")]
    Setting {
        /// What it is.
        name: &'static str,
        /// Its range.
        range: &'static str,
        /// The number.
        found: f64,
    },
    /// The matrix has no Cholesky factor.
    #[error("expected a positive definite matrix of second moments, found one that is not: more damping is needed")]
    Indefinite,
}

impl Hessian {
    /// Of no inputs yet.
    pub fn new(cols: usize) -> Self {
        Self { cols, inputs: 0, sums: zeros(cols * cols), drift: Vec::new() }
    }

    /// Of `inputs` inputs with these sums, and C of pairs: for tests of what is made of them.
    #[cfg(test)]
    pub(super) fn of_sums(cols: usize, inputs: usize, sums: Vec<f64>, drift: Vec<f64>) -> Self {
        Self { cols, inputs, sums, drift }
    }

    /// The number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The number of inputs.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Adds inputs, `[n, cols]` row-major.
    ///
    /// # Errors
    /// When they are not a whole number of rows.
    pub fn add(&mut self, inputs: &[f32]) -> Result<(), HessianError> {
        self.add_numbers(inputs.len(), |i| inputs[i])
    }

    /// Adds `found` numbers, `[n, cols]` row-major, each given by its index.
    fn add_numbers(&mut self, found: usize, inputs: impl Fn(usize) -> f32 + Sync) -> Result<(), HessianError> {
        let cols = self.cols;
        if cols == 0 || !found.is_multiple_of(cols) {
            return Err(HessianError::Length { cols, found });
        }
        self.inputs += found / cols;
        add_moments(inputs, [found / cols, cols], &mut self.sums);
        Ok(())
    }

    /// Adds the inputs of a plain model, x, and of one whose linears are encoded so far, x′, for the same tokens. The moments are those of their
    /// mean, and [`feedback`](Self::feedback) makes up for half of what the linear's outputs lack because of x − x′: weights W are encoded as
    /// W + ½·W·C·(H + λI)⁻¹, C = E\[(x − x′)·x′ᵀ\]. (GPTAQ, arXiv 2504.02692, has all of it, and H of x′ alone, which gains less on text that is
    /// not in the calibration.)
    ///
    /// # Errors
    /// When they are not a whole number of rows, or not as many.
    pub fn add_pair(&mut self, plain: &[f32], encoded: &[f32]) -> Result<(), HessianError> {
        if plain.len() != encoded.len() {
            return Err(HessianError::Length { cols: self.cols, found: encoded.len() });
        }
        self.add_numbers(plain.len(), |i| 0.5 * (plain[i] + encoded[i]))?;
        self.expect_drift();
        let shape = [plain.len() / self.cols, self.cols];
        add_outer_products(|i| plain[i] - encoded[i], |i| encoded[i], shape, &mut self.drift);
        Ok(())
    }

    /// Adds the inputs of `other`.
    ///
    /// # Errors
    /// When it has another number of columns.
    pub fn merge(&mut self, other: &Self) -> Result<(), HessianError> {
        self.expect_columns(other)?;
        self.inputs += other.inputs;
        self.add_scaled(1.0, 1.0, other);
        Ok(())
    }

    /// The mixture (1−ρ)·H + ρ·H′ of the moments of these inputs and those of `other`, whatever the numbers of inputs.
    ///
    /// # Errors
    /// When the columns differ, either has no inputs, or ρ is not from 0 to 1.
    pub fn mix(&mut self, other: &Self, share: f64) -> Result<(), HessianError> {
        self.expect_columns(other)?;
        if !(0.0..=1.0).contains(&share) {
            return Err(HessianError::Setting { name: "a share", range: "from 0 to 1", found: share });
        }
        if self.inputs == 0 || other.inputs == 0 {
            return Err(HessianError::Empty);
        }
        let factor = share * self.inputs as f64 / other.inputs as f64;
        self.add_scaled(1.0 - share, factor, other);
        Ok(())
    }

    /// Sums times `own`, and those of `other` times `factor`.
    fn add_scaled(&mut self, own: f64, factor: f64, other: &Self) {
        if !other.drift.is_empty() {
            self.expect_drift();
        }
        for (sums, other) in [(&mut self.sums, &other.sums), (&mut self.drift, &other.drift)] {
            // There may be no pairs in the other.
            sums.par_iter_mut().for_each(|sum| *sum *= own);
            sums.par_iter_mut().zip(other).for_each(|(sum, other)| *sum += factor * other);
        }
    }

    /// Makes room for sums of pairs.
    fn expect_drift(&mut self) {
        if self.drift.is_empty() {
            self.drift = zeros(self.cols * self.cols);
        }
    }

    fn expect_columns(&self, other: &Self) -> Result<(), HessianError> {
        let (expected, found) = (self.cols, other.cols);
        if expected == found { Ok(()) } else { Err(HessianError::Columns { expected, found }) }
    }

    /// The mean square of each column.
    ///
    /// # Errors
    /// When there are no inputs, or a mean square is not finite in `f32`.
    pub fn mean_squares(&self) -> Result<Vec<f32>, HessianError> {
        if self.inputs == 0 {
            return Err(HessianError::Empty);
        }
        let mean = |channel: usize| self.sums[channel * (self.cols + 1)] / self.inputs as f64;
        let square = |channel| match mean(channel) as f32 {
            square if square.is_finite() => Ok(square),
            _ => Err(HessianError::NotFinite { channel, found: mean(channel) }),
        };
        (0..self.cols).map(square).collect()
    }

    /// Σ e·H·eᵀ over the rows of `errors`, `[rows, cols]`: the mean squared error of their product with the inputs, summed over
    /// rows. 0 without inputs.
    ///
    /// # Panics
    /// When `errors` is not a whole number of rows.
    pub fn energy(&self, errors: &[f32]) -> f64 {
        let cols = self.cols.max(1);
        assert!(errors.len().is_multiple_of(cols), "energy: expected rows of {cols} numbers");
        let row = |e: &[f32]| -> f64 {
            (0..self.cols)
                .map(|i| {
                    let row = &self.sums[i * cols..][..cols];
                    let rest: f64 = (i + 1..cols).map(|j| row[j] * f64::from(e[j])).sum();
                    f64::from(e[i]) * (row[i] * f64::from(e[i]) + 2.0 * rest)
                })
                .sum()
        };
        let rows: Vec<f64> = errors.par_chunks(cols).map(row).collect();
        rows.into_iter().sum::<f64>() / self.inputs.max(1) as f64
    }

    /// The feedback for weights with these inputs, of which the encoder needs what `effort` says. λ times the mean of the diagonal
    /// is added to it: the moments are those of a sample, and what is fitted to a sample too closely is worse outside it.
    ///
    /// # Errors
    /// When there are no inputs, a mean square is not finite, or λ is not a finite number ≥ 0 with which the moments are positive
    /// definite.
    pub fn feedback(&self, damping: f64, effort: Effort) -> Result<Feedback, HessianError> {
        self.clone().into_feedback(damping, effort)
    }

    /// As [`feedback`](Self::feedback), in the memory of these sums.
    ///
    /// # Errors
    /// As [`feedback`](Self::feedback).
    pub fn into_feedback(self, damping: f64, effort: Effort) -> Result<Feedback, HessianError> {
        if !(damping >= 0.0 && damping.is_finite()) {
            return Err(HessianError::Setting { name: "a damping", range: "of at least 0", found: damping });
        }
        let (cols, importance) = (self.cols, self.mean_squares()?);
        let scale = 1.0 / self.inputs as f64;
        let (mut h, mut drift) = (self.sums, self.drift);
        drift.par_iter_mut().for_each(|c| *c *= scale);
        h.par_chunks_mut(cols.max(1)).enumerate().for_each(|(i, row)| row[i..].iter_mut().for_each(|h| *h *= scale));
        let trace: f64 = (0..cols).map(|i| h[i * (cols + 1)]).sum();
        // Without any input every column counts alike.
        let mean = if trace > 0.0 { trace / cols as f64 } else { 1.0 };
        for i in 0..cols {
            let diagonal = &mut h[i * (cols + 1)];
            if *diagonal == 0.0 {
                *diagonal = if trace > 0.0 { DEAD * mean } else { 1.0 };
            }
            *diagonal += damping * mean;
        }
        let kept = (effort == Effort::Best).then(|| h.clone());
        cholesky::upper(&mut h, cols).ok_or(HessianError::Indefinite)?;
        Ok(Feedback::new(cols, &h, kept.as_deref(), damping * mean, importance.into()).with_drift(&drift))
    }
}

/// So many zeros, written on all threads: half a gigabyte for 8192 channels.
fn zeros(n: usize) -> Vec<f64> {
    rayon::iter::repeat_n(0.0, n).collect()
}

impl std::fmt::Debug for Hessian {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hessian").field("cols", &self.cols).field("inputs", &self.inputs).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::MOMENTS_NMSE;

    fn inputs(n: usize, cols: usize) -> Vec<f32> {
        (0..n * cols).map(|i| ((i * 7919 + i * i % 97) % 1013) as f32 / 506.5 - 1.0).collect()
    }

    fn of(x: &[f32], cols: usize) -> Hessian {
        let mut hessian = Hessian::new(cols);
        hessian.add(x).unwrap();
        hessian
    }

    #[test]
    fn sums_are_those_of_outer_products_in_f64() {
        let cols = 150;
        let x = inputs(300, cols);
        let hessian = of(&x, cols);
        for i in 0..cols {
            for j in i..cols {
                let sum =
                    |i: usize, j: usize| -> f64 { x.chunks(cols).map(|x| f64::from(x[i]) * f64::from(x[j])).sum() };
                let error = hessian.sums[i * cols + j] - sum(i, j);
                assert!(error * error < MOMENTS_NMSE * sum(i, i) * sum(j, j), "({i}, {j})");
            }
        }
        let mean: f64 = x.iter().step_by(cols).map(|x| f64::from(x * x)).sum::<f64>() / 300.0;
        assert!((f64::from(hessian.mean_squares().unwrap()[0]) - mean).abs() < 1e-4 * mean);
        // e·H·eᵀ is the mean square of x·e.
        let e = &inputs(7, cols)[3 * cols..4 * cols];
        let dot = |x: &[f32]| x.iter().zip(e).map(|(x, e)| f64::from(*x) * f64::from(*e)).sum::<f64>();
        let expected = x.chunks(cols).map(|x| dot(x).powi(2)).sum::<f64>() / 300.0;
        assert!((hessian.energy(e) / expected - 1.0).abs() < 1e-4);
    }

    #[test]
    fn merged_moments_are_those_of_all_inputs_and_mixed_ones_count_by_their_share() {
        let (a, b) = (inputs(20, 5), vec![2.0; 3 * 5]);
        let mut merged = of(&a, 5);
        merged.merge(&of(&b, 5)).unwrap();
        let all = of(&[a.clone(), b.clone()].concat(), 5);
        assert_eq!(merged.inputs(), 23);
        assert!((merged.energy(&[1.0; 5]) / all.energy(&[1.0; 5]) - 1.0).abs() < 1e-4, "rounded by other steps");
        let [of_a, of_b] = [of(&a, 5), of(&b, 5)].map(|one| one.energy(&[1.0; 5]));
        let expected = (20.0 * of_a + 3.0 * of_b) / 23.0;
        assert!((merged.energy(&[1.0; 5]) - expected).abs() < 1e-9 * expected);
        let mut mixed = of(&a, 5);
        mixed.mix(&of(&b, 5), 0.25).unwrap();
        let expected = 0.75 * of_a + 0.25 * of_b;
        assert!((mixed.energy(&[1.0; 5]) - expected).abs() < 1e-9 * expected);
        assert!((of_b - 100.0).abs() < 1e-2);
    }

    #[test]
    fn unusable_moments_are_rejected() {
        let mut hessian = Hessian::new(3);
        assert_eq!(hessian.add(&[1.0; 4]), Err(HessianError::Length { cols: 3, found: 4 }));
        assert_eq!(hessian.feedback(0.1, Effort::Good), Err(HessianError::Empty));
        assert_eq!(hessian.merge(&Hessian::new(2)), Err(HessianError::Columns { expected: 3, found: 2 }));
        hessian.add(&[1.0, f32::INFINITY, 1.0]).unwrap();
        assert!(matches!(hessian.feedback(0.1, Effort::Good), Err(HessianError::NotFinite { channel: 1, .. })));
        let fine = of(&inputs(9, 3), 3);
        for wrong in [-0.1, f64::NAN, f64::INFINITY] {
            assert!(matches!(fine.feedback(wrong, Effort::Good), Err(HessianError::Setting { .. })), "{wrong}");
            assert!(fine.clone().mix(&fine, wrong).is_err());
        }
        // Equal inputs in two channels, and no damping: singular.
        let singular = of(&[2.0; 4], 2).feedback(0.0, Effort::Good);
        assert_eq!(singular, Err(HessianError::Indefinite));
        // Channels without inputs are no obstacle.
        assert!(of(&[0.0, 1.0, 0.0, 2.0], 2).feedback(0.0, Effort::Best).is_ok());
        assert!(of(&[0.0; 6], 3).feedback(0.0, Effort::Good).is_ok());
    }
}
