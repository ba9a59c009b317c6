//! Integer multiples of one step per matrix, for an entropy coder.
//!
//! With an entropy coder behind it a uniform quantiser is as good as any at a given rate (Gish and Pierce, 1968), so
//! there is no curve and no range to fit, only the step, which determines the rate. With [`Feedback`] each weight is rounded from what the errors
//! before it leave to make up for, columns with the largest inputs first.

use std::f64::consts::{E, PI};

use rayon::prelude::*;

use super::{Element, EncodeOptions, Extent, MatrixFormat, PartSpec, StoredForm, Weights, check_parameters};
use crate::{
    EncodeError, Feedback, FloatDtype, Layout, entropy,
    feedback::{FEEDBACK_ROWS, Rounding, Target, sweep},
    first::first,
    range::ScaleRange,
};

/// The largest code: integers up to this are exact in `f32`.
const LARGEST: f32 = (1 << 24) as f32;

/// Weights sampled to choose a step.
const SAMPLE: usize = 1 << 20;

/// Bits per weight that a step may leave unused, and the maximum number of steps tried.
const TOLERANCE: f64 = 0.004;
const ROUNDS: usize = 12;

/// The rate of [`Scheme::Rate`](crate::Scheme::Rate).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// Bits per weight after entropy coding, from which the step is found.
    Bits(f64),
    /// The step itself.
    Step(f32),
}

impl Default for Rate {
    /// 4 bits per weight.
    fn default() -> Self {
        Self::Bits(4.0)
    }
}

impl Rate {
    /// The minimum and maximum bits per weight.
    pub const BITS: [f64; 2] = [0.5, 16.0];

    /// This many bits per weight.
    ///
    /// # Errors
    /// Outside [`BITS`](Self::BITS).
    pub fn bits(bits: f64) -> Result<Self, String> {
        let [least, most] = Self::BITS;
        if (least..=most).contains(&bits) {
            Ok(Self::Bits(bits))
        } else {
            Err(format!("expected {least} to {most} bits per weight, found {bits}"))
        }
    }

    /// The step for a matrix, from rows of it, which are encoded with `feedback` as all will be.
    fn step(self, sample: &[f32], cols: usize, feedback: Option<&Feedback>) -> Result<f32, EncodeError> {
        match self {
            Self::Step(step) => Ok(step),
            Self::Bits(bits) => step_of(sample, cols, bits, feedback),
        }
    }
}

/// The step at which the entropy-coded sample takes `bits` per weight.
fn step_of(sample: &[f32], cols: usize, bits: f64, feedback: Option<&Feedback>) -> Result<f32, EncodeError> {
    let n = sample.len().max(1) as f64;
    let sigma = (sample.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>() / n).sqrt();
    // For zeros any step will do; non-finite weights are rejected by the encoder.
    if sigma == 0.0 || !sigma.is_finite() {
        return Ok(1.0);
    }
    let smallest = f64::from(sample.iter().fold(0.0_f32, |max, x| max.max(x.abs()))) / f64::from(LARGEST);
    let [smallest, largest] = [smallest, f64::from(f32::MAX / LARGEST)].map(f64::log2);
    // The first guess is right for Gaussian weights at high rates. No other distribution of equal energy has more entropy, so
    // a step of more than twice that is needed only if a tiny matrix has fewer bits than the coder's tables take.
    let mut step = (sigma * (2.0 * PI * E).sqrt()).log2() - bits;
    // Halving the step adds a bit, so the error of the rate is the error of the step's logarithm; at low rates it adds
    // less, and more iterations are needed. Bits are not quite monotonic in the step, so the result is the finest step
    // found within the budget.
    let (mut too_fine, mut kept) = (smallest, largest.min(step + 1.0));
    for _ in 0..ROUNDS {
        step = step.max(too_fine).min(kept);
        let candidate = number(step);
        let codes = codes(sample, candidate, feedback)?;
        let bytes: Vec<u8> = codes.iter().flat_map(|code| code.to_le_bytes()).collect();
        let over = 8.0 * entropy::code(&bytes, Element::I32, cols)?.bytes() as f64 / n - bits;
        if over > 0.0 {
            too_fine = too_fine.max(step)
        } else {
            kept = kept.min(step)
        }
        if (-TOLERANCE..=0.0).contains(&over) || kept <= too_fine {
            break;
        }
        let next = step + over + 0.5 * TOLERANCE;
        step = if (too_fine..kept).contains(&next) { next } else { 0.5 * (too_fine + kept) };
    }
    Ok(number(kept))
}

/// The step with this logarithm, at least the smallest positive number.
fn number(log: f64) -> f32 {
    (log.exp2() as f32).max(f32::from_bits(1))
}

/// The nearest multiple of the step.
#[inline]
fn code(x: f32, step: f32) -> i32 {
    // Rounded before the conversion, which saturates; such a code is rejected.
    (x / step).round_ties_even() as i32
}

/// The codes of weights: the nearest, or with feedback the nearest to what the errors before leave to make up for.
fn codes(weights: &[f32], step: f32, feedback: Option<&Feedback>) -> Result<Vec<i32>, EncodeError> {
    let Some(feedback) = feedback else { return Ok(weights.iter().map(|x| code(*x, step)).collect()) };
    let (cols, ordered) = (feedback.cols(), feedback.descending());
    let mut codes = vec![0; weights.len()];
    let bands =
        weights.par_chunks((FEEDBACK_ROWS * cols).max(1)).zip(codes.par_chunks_mut((FEEDBACK_ROWS * cols).max(1)));
    bands.try_for_each(|(x, codes)| {
        let mut sorted = vec![0; codes.len()];
        sweep(&ordered.sorted(x), &ordered.feedback, &mut Multiples { step, cols, codes: &mut sorted })?;
        ordered.restore(&sorted, codes);
        Ok(())
    })?;
    Ok(codes)
}

/// Rounding to multiples of a step.
struct Multiples<'a> {
    step: f32,
    cols: usize,
    codes: &'a mut [i32],
}

impl Rounding for Multiples<'_> {
    fn begin(&mut self, _row: usize, _start: usize, _corrected: &[f32]) -> Result<(), EncodeError> {
        Ok(())
    }

    fn group(&mut self, row: usize, first: usize, target: &Target<'_>) -> [f32; Layout::GROUP] {
        let (mut corrected, mut errors) = (target.corrected, [0.0; Layout::GROUP]);
        let width = Layout::GROUP.min(self.cols - first);
        let codes = &mut self.codes[row * self.cols + first..][..width];
        for (j, q) in codes.iter_mut().enumerate() {
            *q = code(corrected[j], self.step);
            errors[j] = target.weights[j] - self.step * *q as f32;
            for (c, lower) in corrected[j + 1..].iter_mut().zip(&target.lower[j][j + 1..]) {
                *c += errors[j] * lower;
            }
        }
        errors
    }
}

/// The codes of finite weights, as words.
fn encode(weights: &[f32], cols: usize, step: f32, feedback: Option<&Feedback>) -> Result<Vec<u32>, EncodeError> {
    let codes = codes(weights, step, feedback)?;
    let codes: Vec<u32> = codes.into_iter().map(i32::cast_unsigned).collect();
    match first_too_large(&codes) {
        Some(i) => Err(EncodeError::Step { row: i / cols, col: i % cols, value: weights[i], step }),
        None => Ok(codes),
    }
}

fn first_too_large(codes: &[u32]) -> Option<usize> {
    first(codes, |q| q.cast_signed().unsigned_abs() > LARGEST as u32)
}

pub(super) struct WholeNumbers;

impl StoredForm for WholeNumbers {
    fn parts(&self, _: FloatDtype, cols: usize) -> Vec<PartSpec> {
        vec![
            PartSpec::new("packed", Element::I32, Extent::Rows(cols)),
            PartSpec::new("step", Element::F32, Extent::Matrix(1)),
        ]
    }

    fn encode(&self, format: &MatrixFormat, weights: &Weights<'_>) -> Result<Vec<Vec<u32>>, EncodeError> {
        let step = weights.options.rate.step(weights.values, format.cols(), weights.feedback)?;
        let codes = encode(weights.values, format.cols(), step, weights.feedback)?;
        Ok(vec![codes, vec![step.to_bits()]])
    }

    fn check(&self, format: &MatrixFormat, parts: &[&[u32]]) -> Result<(), EncodeError> {
        check_parameters("step", parts[1], 1, f32::MAX / LARGEST)?;
        let codes = parts[0];
        match first_too_large(codes) {
            Some(i) => {
                let cols = format.cols();
                Err(EncodeError::Code { row: i / cols, col: i % cols, code: codes[i].cast_signed() })
            }
            None => Ok(()),
        }
    }

    fn uses_feedback(&self) -> bool {
        true
    }

    fn scale_range(&self, _: usize, _: &EncodeOptions) -> Option<ScaleRange> {
        None
    }

    fn plain_in_memory(&self, _: FloatDtype) -> Option<FloatDtype> {
        // Decoded weights need not be numbers of the source's type.
        Some(FloatDtype::F32)
    }

    fn sample(&self, _: &EncodeOptions) -> Option<usize> {
        Some(SAMPLE)
    }

    fn resolve(&self, sample: &Weights<'_>, options: &mut EncodeOptions) -> Result<(), EncodeError> {
        options.rate = Rate::Step(options.rate.step(sample.values, sample.shape[1], sample.feedback)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fitted_step_costs_the_requested_bits() {
        let sample: Vec<f32> = (0..1 << 16)
            .map(|i: u32| {
                let u = (0.5 + f64::from(i.wrapping_mul(0x9e37_79b1) >> 8)) / f64::from(1 << 24);
                (0.02 * (u / (1.0 - u)).ln()) as f32
            })
            .collect();
        for bits in [0.5, 1.0, 2.0, 4.0, 8.0, 12.0] {
            let step = Rate::Bits(bits).step(&sample, 256, None).unwrap();
            let bytes: Vec<u8> = sample.iter().flat_map(|x| code(*x, step).to_le_bytes()).collect();
            let found = 8.0 * entropy::code(&bytes, Element::I32, 256).unwrap().bytes() as f64 / sample.len() as f64;
            assert!((bits - 0.02..=bits).contains(&found), "{bits}: {found}");
        }
        for none in [0.0, f32::NAN, f32::INFINITY] {
            assert_eq!(Rate::Bits(4.0).step(&[none; 8], 4, None), Ok(1.0));
        }
        // For weights of any size, codes are exact in f32.
        for size in [f32::MAX, f32::MIN_POSITIVE, f32::from_bits(1)] {
            let step = Rate::Bits(16.0).step(&[size, size / 3.0, 0.0], 3, None).unwrap();
            assert!(encode(&[size], 1, step, None).is_ok(), "{size}: {step}");
        }
        assert_eq!(Rate::Step(0.5).step(&sample, 256, None), Ok(0.5));
    }
}
