//! The bound for `rate`: a uniform quantiser whose codes cost exactly their entropy.

use std::f64::consts::{E, PI};

use crate::{data::DataSet, measure::Mean};

/// SQNR in dB of that quantiser; each matrix has the step at which the entropy of its codes is `bits`.
pub(crate) fn decibels(data: &DataSet, bits: f64) -> Option<f64> {
    let mut error = Mean::default();
    for matrix in &data.matrices {
        error.add(&matrix.weights, &at(&matrix.weights, bits));
    }
    error.decibels()
}

fn at(weights: &[f32], bits: f64) -> Vec<f32> {
    let sigma = (weights.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>() / weights.len() as f64).sqrt();
    // The step for Gaussian weights at high rate. No other distribution has more entropy, so its step is finer.
    let gaussian = (sigma * (2.0 * PI * E).sqrt()).log2() - bits;
    let [mut fine, mut coarse] = [gaussian - 6.0, gaussian + 1.0];
    let codes = |step: f64| weights.iter().map(|w| (w / step.exp2() as f32).round() as i32).collect::<Vec<_>>();
    while coarse - fine > 1e-4 {
        let step = 0.5 * (fine + coarse);
        if entropy(codes(step)) > bits { fine = step } else { coarse = step }
    }
    codes(coarse).into_iter().map(|code| code as f32 * coarse.exp2() as f32).collect()
}

/// The empirical entropy in bits per code.
fn entropy(mut codes: Vec<i32>) -> f64 {
    codes.sort_unstable();
    let n = codes.len() as f64;
    let bits = |count: usize| -(count as f64 / n) * (count as f64 / n).log2();
    codes.chunk_by(|a, b| a == b).map(|same| bits(same.len())).sum()
}

#[cfg(test)]
#[test]
fn bound_is_a_quarter_of_a_bit_below_the_gaussian_limit() {
    let expected = 0.625 * f64::log2(1.6) + 0.5 + 0.375;
    assert!((entropy(vec![5, -1, 5, 7, 5, -1, 5, 5]) - expected).abs() < 1e-12);
    // Gish and Pierce: π·e/6, or 1.53 dB, at many levels.
    let found = decibels(&crate::data::gaussian(), 6.0).unwrap();
    assert!((found - (6.0 * 20.0 * 2.0_f64.log10() - 1.53)).abs() < 0.05, "{found}");
}
