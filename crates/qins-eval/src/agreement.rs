//! Teacher-forced agreement: both models read the same tokens, and their predictions are compared position by position.

/// The likeliest token: the index of the largest logit, the lowest among equals.
pub fn top(logits: &[f32]) -> usize {
    logits.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (i, &l)| if l > best.1 { (i, l) } else { best }).0
}

/// KL(p‖q) in nats of the distributions softmax(`p`) and softmax(`q`), computed in `f64`.
///
/// It is ≥ 0, and exactly 0 for equal logits. A difference below the rounding of the sum, about 1e-15, is given as 0.
/// Of logits that are not finite it is NaN.
///
/// ```
/// use qins_eval::agreement::kl;
/// let (p, q) = ([0.0, 1.0_f32.ln()], [0.0, 3.0_f32.ln()]);
/// // ½·ln(½ / ¼) + ½·ln(½ / ¾)
/// let expected = 0.5 * (0.5_f64 / 0.25).ln() + 0.5 * (0.5_f64 / 0.75).ln();
/// assert!((kl(&p, &q) - expected).abs() < 1e-7);
/// assert_eq!(kl(&q, &q), 0.0);
/// ```
///
/// # Panics
/// When the lengths differ.
pub fn kl(p: &[f32], q: &[f32]) -> f64 {
    assert_eq!(p.len(), q.len(), "kl: two distributions over one vocabulary");
    let (p_norm, q_norm) = (log_sum_exp(p), log_sum_exp(q));
    let sum: f64 = p
        .iter()
        .zip(q)
        .map(|(&p, &q)| {
            let (log_p, log_q) = (f64::from(p) - p_norm, f64::from(q) - q_norm);
            log_p.exp() * (log_p - log_q)
        })
        .sum();
    // Not `max`, which would make 0 of NaN.
    if sum < 0.0 { 0.0 } else { sum }
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let max = f64::from(max);
    max + logits.iter().map(|&l| (f64::from(l) - max).exp()).sum::<f64>().ln()
}

/// The comparison at one position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    /// Whether both would say the same.
    pub same_top: bool,
    /// KL of the candidate from the baseline, in nats.
    pub kl: f64,
}

/// Compares logits `[n, vocabulary]`, row-major.
///
/// # Panics
/// When the lengths differ or are no multiple of `vocabulary`.
pub fn compare(baseline: &[f32], candidate: &[f32], vocabulary: usize) -> Vec<Position> {
    assert_eq!((baseline.len(), baseline.len() % vocabulary), (candidate.len(), 0), "compare: one shape, whole rows");
    baseline
        .chunks_exact(vocabulary)
        .zip(candidate.chunks_exact(vocabulary))
        .map(|(p, q)| Position { same_top: top(p) == top(q), kl: kl(p, q) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kl_is_shift_invariant_and_survives_large_logits() {
        let p: Vec<f32> = vec![900.0, 901.0, 899.0];
        let q: Vec<f32> = vec![-3.0, -2.0, -4.0];
        assert!(kl(&p, &q) < 1e-12, "{}", kl(&p, &q));
        assert!(kl(&[0.0, 0.0], &[0.0, 1.0]) > 0.05);
    }

    #[test]
    fn a_model_that_says_nan_agrees_with_nobody() {
        let nan = [f32::NAN; 3];
        for (p, q) in [(nan, nan), ([0.0; 3], nan), (nan, [0.0; 3])] {
            assert!(kl(&p, &q).is_nan());
        }
    }

    #[test]
    fn positions_are_compared_row_by_row() {
        let rows = compare(&[0.0, 1.0, 5.0, 0.0], &[0.0, 1.0, 0.0, 5.0], 2);
        assert_eq!((rows[0], rows[1].same_top), (Position { same_top: true, kl: 0.0 }, false));
        assert!(rows[1].kl > 4.0);
    }
}
