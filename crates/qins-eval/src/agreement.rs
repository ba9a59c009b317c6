//! Teacher-forced agreement: both models read the same tokens, and their predictions are compared position by position.

use rayon::prelude::*;

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

/// −ln of the probability of `token` in softmax(`logits`), in nats, computed in `f64`.
///
/// # Panics
/// When there is no such token.
pub fn surprise(logits: &[f32], token: u32) -> f64 {
    log_sum_exp(logits) - f64::from(logits[token as usize])
}

/// The share of the `k` likeliest tokens of `p` that are among those of `q`, the lowest ids among equals; of a vocabulary
/// of fewer than `k`, all are.
///
/// ```
/// assert_eq!(qins_eval::agreement::top_k_overlap(&[3.0, 2.0, 1.0], &[3.0, 1.0, 2.0], 2), 0.5);
/// ```
pub fn top_k_overlap(p: &[f32], q: &[f32], k: usize) -> f64 {
    let likeliest = |logits: &[f32]| {
        let mut ids: Vec<usize> = (0..logits.len()).collect();
        if k < ids.len() {
            ids.select_nth_unstable_by(k, |&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
            ids.truncate(k);
        }
        ids.sort_unstable();
        ids
    };
    let (p, q) = (likeliest(p), likeliest(q));
    p.iter().filter(|id| q.binary_search(id).is_ok()).count() as f64 / p.len() as f64
}

/// The cosine of the angle between two rows of logits, computed in `f64`: exactly 1 for equal ones.
pub fn cosine(p: &[f32], q: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(p, q) / (dot(p, p) * dot(q, q)).sqrt()
}

/// The probability that shared random numbers draw the same token from both distributions, where each token runs a race
/// with one number of its own: the token drawn is the one whose exponential clock, of the rate of its probability, rings
/// first. It is no estimate but the sum Σᵢ 1 / Σⱼ max(pⱼ/pᵢ, qⱼ/qᵢ), of Moulton and Jiang, "Maximally consistent sampling
/// and the Jaccard index of probability distributions", 2018. Exactly 1 for equal logits.
///
/// ```
/// use qins_eval::agreement::same_draw;
/// let (p, q) = ([0.0, 0.0], [0.0, 3.0_f32.ln()]);
/// // ½, ½ and ¼, ¾: 1 / (1 + 3) and 1 / (1 + 1).
/// assert!((same_draw(&p, &q) - 0.75).abs() < 1e-7);
/// assert_eq!(same_draw(&q, &q), 1.0);
/// ```
pub fn same_draw(p: &[f32], q: &[f32]) -> f64 {
    let (p_norm, q_norm) = (log_sum_exp(p), log_sum_exp(q));
    let mut tokens: Vec<(f64, f64, f64)> = (p.iter().zip(q))
        .map(|(&p, &q)| {
            let (log_p, log_q) = (f64::from(p) - p_norm, f64::from(q) - q_norm);
            // Of a token that neither ever draws there is no ratio, and it does not matter.
            let log_ratio = if log_p == log_q { 0.0 } else { log_p - log_q };
            (log_ratio, log_p.exp(), log_q.exp())
        })
        .collect();
    if p_norm.is_nan() || q_norm.is_nan() {
        return f64::NAN;
    }
    // Σⱼ max(pⱼ, qⱼ·pᵢ/qᵢ) = 1 + Σⱼ (qⱼ·pᵢ/qᵢ − pⱼ) over those j whose ratio pⱼ/qⱼ is smaller: sums along the sorted ratios.
    tokens.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (mut p_sum, mut q_sum, mut apart) = (0.0, 0.0, 0.0);
    for (log_ratio, p, q) in tokens {
        // What differs is summed, not what is the same: of equal logits that is nothing, without any rounding.
        let more = (log_ratio.exp() * q_sum - p_sum).max(0.0);
        apart += if more.is_finite() { p * more / (1.0 + more) } else { p };
        p_sum += p;
        q_sum += q;
    }
    1.0 - apart
}

/// The comparison at one position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    /// Whether both would say the same.
    pub same_top: bool,
    /// KL of the candidate from the baseline, in nats.
    pub kl: f64,
    /// Share of the baseline's ten likeliest tokens that are the candidate's too.
    pub top10_overlap: f64,
    /// Cosine of the logits.
    pub cosine: f64,
    /// Probability that shared random numbers draw the same token from both.
    pub same_draw: f64,
    /// The baseline's surprise at the token that follows, in nats.
    pub baseline_surprise: f64,
    /// The candidate's.
    pub surprise: f64,
}

impl Position {
    /// By how much likelier the candidate finds the token that follows.
    pub fn probability_change(&self) -> f64 {
        (-self.surprise).exp() - (-self.baseline_surprise).exp()
    }
}

/// Compares logits `[n, vocabulary]`, row-major, by which `following[n]` were predicted.
///
/// # Panics
/// When the lengths differ or are no multiple of `vocabulary`, or a token is outside it.
pub fn compare(baseline: &[f32], candidate: &[f32], following: &[u32], vocabulary: usize) -> Vec<Position> {
    let length = following.len() * vocabulary;
    assert_eq!((baseline.len(), candidate.len()), (length, length), "compare: one shape, a row for each token");
    baseline
        .par_chunks_exact(vocabulary)
        .zip(candidate.par_chunks_exact(vocabulary))
        .zip(following)
        .map(|((p, q), &token)| Position {
            same_top: top(p) == top(q),
            kl: kl(p, q),
            top10_overlap: top_k_overlap(p, q, 10),
            cosine: cosine(p, q),
            same_draw: same_draw(p, q),
            baseline_surprise: surprise(p, token),
            surprise: surprise(q, token),
        })
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
            assert!(kl(&p, &q).is_nan() && same_draw(&p, &q).is_nan());
        }
    }

    #[test]
    fn positions_are_compared_row_by_row() {
        let rows = compare(&[0.0, 1.0, 5.0, 0.0], &[0.0, 1.0, 0.0, 5.0], &[1, 0], 2);
        assert_eq!((rows[0].same_top, rows[0].kl, rows[0].cosine), (true, 0.0, 1.0));
        assert_eq!((rows[0].surprise, rows[0].probability_change()), (rows[0].baseline_surprise, 0.0));
        assert!(!rows[1].same_top && rows[1].kl > 4.0 && rows[1].probability_change() < -0.9);
        assert_eq!((rows[1].top10_overlap, rows[1].cosine), (1.0, 0.0));
    }

    /// Numbers from −8 to 8 of a linear congruential generator.
    fn numbers(n: usize, mut state: u64) -> Vec<f32> {
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 * 16.0 - 8.0
        };
        std::iter::repeat_with(next).take(n).collect()
    }

    #[test]
    fn every_figure_is_what_numpy_computes() {
        // NumPy 2.4 in float64, by the definitions: log-softmax, Σ eᵖ(p − q), sorted ids, dot products, and
        // Σᵢ 1 / Σⱼ max(pⱼ/pᵢ, qⱼ/qᵢ) over all pairs, which 400,000 races each confirmed to three digits.
        let expected = [
            (true, 0.17478546324134, 0.9, 0.98979381101244, 10.854006864107, 11.350508909091, 0.72520187698434),
            (false, 0.12734204041936, 1.0, 0.9915664369285, 13.579762718668, 14.785605769688, 0.76258439863497),
            (true, 0.093438836083654, 1.0, 0.9917900042022, 9.3767919273081, 9.4233746720577, 0.80224976883119),
            (false, 0.1897246896133, 0.9, 0.99003853856956, 4.4095058302063, 4.8510471307944, 0.68147663479037),
        ];
        let (p, noise) = (numbers(200, 1), numbers(200, 2));
        let q: Vec<f32> = p.iter().zip(noise).map(|(p, e)| p + e * 0.125).collect();
        for (found, expected) in compare(&p, &q, &[3, 17, 49, 0], 50).iter().zip(expected) {
            assert_eq!((found.same_top, found.top10_overlap), (expected.0, expected.2));
            for (found, expected) in [
                (found.kl, expected.1),
                (found.cosine, expected.3),
                (found.baseline_surprise, expected.4),
                (found.surprise, expected.5),
                (found.same_draw, expected.6),
            ] {
                assert!((found - expected).abs() < 1e-12 * expected, "{found}, {expected}");
            }
        }
    }
}
