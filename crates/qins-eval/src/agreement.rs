//! Teacher-forced agreement: both models read the same tokens, and their next-token distributions are compared position by
//! position.
//!
//! All functions take raw logits over one vocabulary (`f32`, not yet normalised) and compute in `f64`. KL divergences and
//! negative log-likelihoods are in nats; agreements and overlaps are shares from 0 to 1.

use rayon::prelude::*;

/// The top-1 token: the index of the largest logit, the lowest among equals. NaN is never the largest; of no logits, or of none
/// above −∞, it is 0.
pub fn argmax(logits: &[f32]) -> usize {
    logits.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (i, &l)| if l > best.1 { (i, l) } else { best }).0
}

/// The KL divergence KL(p‖q) = Σ p·ln(p/q) in nats, of the distributions softmax(`p`) and softmax(`q`) `[vocabulary]`.
///
/// The result is ≥ 0, and exactly 0 for equal logits; a sum that rounding makes negative (about −1e-15) is returned as 0. A
/// logit that is not finite gives NaN or +∞.
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
    assert_eq!(p.len(), q.len(), "kl: expected two distributions over one vocabulary");
    Distribution::of(p).kl(&Distribution::of(q))
}

/// softmax(`logits`).
struct Distribution<'a> {
    logits: &'a [f32],
    /// ln Σ exp(logit).
    norm: f64,
    probabilities: Vec<f64>,
}

impl<'a> Distribution<'a> {
    fn of(logits: &'a [f32]) -> Self {
        let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let mut probabilities: Vec<f64> = logits.iter().map(|&l| (f64::from(l) - max).exp()).collect();
        let sum: f64 = probabilities.iter().sum();
        probabilities.iter_mut().for_each(|p| *p /= sum);
        Self { logits, norm: max + sum.ln(), probabilities }
    }

    fn log(&self, token: usize) -> f64 {
        f64::from(self.logits[token]) - self.norm
    }

    fn kl(&self, other: &Self) -> f64 {
        let term = |(token, p): (usize, &f64)| p * (self.log(token) - other.log(token));
        let sum: f64 = self.probabilities.iter().enumerate().map(term).sum();
        // Not `max`, which would make 0 of NaN.
        if sum < 0.0 { 0.0 } else { sum }
    }

    fn coupled_agreement(&self, other: &Self) -> f64 {
        if self.norm.is_nan() || other.norm.is_nan() {
            return f64::NAN;
        }
        let log_ratio = |token: usize| {
            let (log_p, log_q) = (self.log(token), other.log(token));
            // A token of probability 0 in both has no ratio, and contributes nothing.
            if log_p == log_q { 0.0 } else { log_p - log_q }
        };
        // Σⱼ max(pⱼ, qⱼ·pᵢ/qᵢ) = 1 + Σⱼ (qⱼ·pᵢ/qᵢ − pⱼ) over those j whose ratio pⱼ/qⱼ is smaller: sums along the sorted ratios.
        let mut tokens: Vec<(f64, u32)> =
            (0..self.logits.len() as u32).map(|token| (log_ratio(token as usize), token)).collect();
        tokens.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let (mut p_sum, mut q_sum, mut disagreement) = (0.0, 0.0, 0.0);
        for (log_ratio, token) in tokens {
            let [p, q] = [self, other].map(|of| of.probabilities[token as usize]);
            // The disagreement is summed, not the agreement, so that equal logits give exactly 1.
            let excess = (log_ratio.exp() * q_sum - p_sum).max(0.0);
            disagreement += if excess.is_finite() { p * excess / (1.0 + excess) } else { p };
            p_sum += p;
            q_sum += q;
        }
        1.0 - disagreement
    }
}

/// The negative log-likelihood −ln softmax(`logits`)\[`token`\] in nats.
///
/// # Panics
/// When `token` is outside the vocabulary.
pub fn nll(logits: &[f32], token: u32) -> f64 {
    -Distribution::of(logits).log(token as usize)
}

/// The share of `p`'s top-`k` tokens that are among `q`'s top-`k` tokens; ties go to the lowest ids. A vocabulary of `k` tokens or
/// fewer gives 1.
///
/// ```
/// assert_eq!(qins_eval::agreement::top_k_overlap(&[3.0, 2.0, 1.0], &[3.0, 1.0, 2.0], 2), 0.5);
/// ```
pub fn top_k_overlap(p: &[f32], q: &[f32], k: usize) -> f64 {
    let top_k = |logits: &[f32]| {
        let mut ids: Vec<usize> = (0..logits.len()).collect();
        if k < ids.len() {
            ids.select_nth_unstable_by(k, |&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
            ids.truncate(k);
        }
        ids.sort_unstable();
        ids
    };
    let (p, q) = (top_k(p), top_k(q));
    p.iter().filter(|id| q.binary_search(id).is_ok()).count() as f64 / p.len() as f64
}

/// The cosine similarity of two rows of logits: exactly 1 for equal rows, NaN when one is all zeros.
pub fn cosine(p: &[f32], q: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(p, q) / (dot(p, p) * dot(q, q)).sqrt()
}

/// The probability that sampling with common random numbers gives the same token from softmax(`p`) and softmax(`q`), under the
/// Gumbel-max coupling that [`Sampler`](qins_model::Sampler) uses: both models add the same Gumbel noise to the log-probability
/// of each token, and each takes its argmax.
///
/// It is exact, not estimated from samples: Σᵢ 1 / Σⱼ max(pⱼ/pᵢ, qⱼ/qᵢ), the probability Jaccard similarity of Moulton and
/// Jiang, "Maximally consistent sampling and the Jaccard index of probability distributions", 2018. Exactly 1 for equal logits;
/// NaN when a logit is NaN or +∞.
///
/// ```
/// use qins_eval::agreement::coupled_agreement;
/// let (p, q) = ([0.0, 0.0], [0.0, 3.0_f32.ln()]);
/// // ½, ½ and ¼, ¾: 1 / (1 + 3) and 1 / (1 + 1).
/// assert!((coupled_agreement(&p, &q) - 0.75).abs() < 1e-7);
/// assert_eq!(coupled_agreement(&q, &q), 1.0);
/// ```
///
/// # Panics
/// When the lengths differ.
pub fn coupled_agreement(p: &[f32], q: &[f32]) -> f64 {
    assert_eq!(p.len(), q.len(), "coupled_agreement: expected two distributions over one vocabulary");
    Distribution::of(p).coupled_agreement(&Distribution::of(q))
}

/// The comparison of two next-token distributions at one position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    /// Whether the top-1 tokens are the same.
    pub top1_agrees: bool,
    /// KL divergence KL(baseline‖candidate), in nats: see [`kl`].
    pub kl: f64,
    /// Share of the baseline's top-10 tokens that are among the candidate's: see [`top_k_overlap`].
    pub top10_overlap: f64,
    /// Cosine similarity of the logits: see [`cosine`].
    pub cosine: f64,
    /// Probability of the same token when sampled with common random numbers: see [`coupled_agreement`].
    pub coupled_agreement: f64,
    /// The baseline's negative log-likelihood of the reference token, in nats.
    pub baseline_nll: f64,
    /// The candidate's negative log-likelihood of the reference token, in nats.
    pub nll: f64,
}

impl Position {
    /// Δp: the candidate's probability of the reference token less the baseline's, from −1 to 1.
    pub fn probability_change(&self) -> f64 {
        (-self.nll).exp() - (-self.baseline_nll).exp()
    }
}

/// What a search for a mixture needs of a [`Position`]: of a large vocabulary it takes a fraction of the time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Divergence {
    /// Whether the top-1 tokens are the same.
    pub top1_agrees: bool,
    /// KL divergence KL(baseline‖candidate), in nats: see [`kl`].
    pub kl: f64,
}

/// As [`compare`], for divergences alone.
///
/// # Panics
/// When the lengths differ, or are no whole number of rows.
pub fn divergences(baseline: &[f32], candidate: &[f32], vocabulary: usize) -> Vec<Divergence> {
    let is_whole = baseline.len() == candidate.len() && baseline.len().is_multiple_of(vocabulary);
    assert!(is_whole, "divergences: expected rows of {vocabulary} logits");
    let rows = baseline.par_chunks_exact(vocabulary).zip(candidate.par_chunks_exact(vocabulary));
    rows.map(|(p, q)| Divergence { top1_agrees: argmax(p) == argmax(q), kl: kl(p, q) }).collect()
}

/// Compares two models' logits, `[n, vocabulary]` row-major, at `n` positions; row i predicts the reference token `targets[i]`.
/// Gives one [`Position`] per row, in order.
///
/// # Panics
/// When the shapes differ, or a token is outside the vocabulary.
pub fn compare(baseline: &[f32], candidate: &[f32], targets: &[u32], vocabulary: usize) -> Vec<Position> {
    let length = targets.len() * vocabulary;
    assert_eq!((baseline.len(), candidate.len()), (length, length), "compare: expected a row of logits per target");
    baseline
        .par_chunks_exact(vocabulary)
        .zip(candidate.par_chunks_exact(vocabulary))
        .zip(targets)
        .map(|((p, q), &token)| {
            let (of_p, of_q) = (Distribution::of(p), Distribution::of(q));
            Position {
                top1_agrees: argmax(p) == argmax(q),
                kl: of_p.kl(&of_q),
                top10_overlap: top_k_overlap(p, q, 10),
                cosine: cosine(p, q),
                coupled_agreement: of_p.coupled_agreement(&of_q),
                baseline_nll: -of_p.log(token as usize),
                nll: -of_q.log(token as usize),
            }
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
    fn nan_logits_give_nan_not_agreement() {
        let nan = [f32::NAN; 3];
        for (p, q) in [(nan, nan), ([0.0; 3], nan), (nan, [0.0; 3])] {
            assert!(kl(&p, &q).is_nan() && coupled_agreement(&p, &q).is_nan());
        }
    }

    #[test]
    fn compare_gives_one_position_per_row() {
        let rows = compare(&[0.0, 1.0, 5.0, 0.0], &[0.0, 1.0, 0.0, 5.0], &[1, 0], 2);
        assert_eq!((rows[0].top1_agrees, rows[0].kl, rows[0].cosine), (true, 0.0, 1.0));
        assert_eq!((rows[0].nll, rows[0].probability_change()), (rows[0].baseline_nll, 0.0));
        assert!(!rows[1].top1_agrees && rows[1].kl > 4.0 && rows[1].probability_change() < -0.9);
        assert_eq!((rows[1].top10_overlap, rows[1].cosine), (1.0, 0.0));
    }

    #[test]
    fn divergences_are_those_of_positions() {
        let [p, q] = [1, 2].map(|seed| numbers(5 * 40, seed));
        let positions = compare(&p, &q, &[0; 5], 40);
        let expected = positions.iter().map(|p| Divergence { top1_agrees: p.top1_agrees, kl: p.kl });
        assert_eq!(divergences(&p, &q, 40), expected.collect::<Vec<_>>());
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
    fn every_metric_equals_numpys() {
        // NumPy 2.4 in float64, by the definitions: log-softmax, Σ eᵖ(p − q), sorted ids, dot products, and
        // Σᵢ 1 / Σⱼ max(pⱼ/pᵢ, qⱼ/qᵢ) over all pairs, which 400,000 coupled samples each confirmed to three digits.
        let expected = [
            (true, 0.17478546324134, 0.9, 0.98979381101244, 10.854006864107, 11.350508909091, 0.72520187698434),
            (false, 0.12734204041936, 1.0, 0.9915664369285, 13.579762718668, 14.785605769688, 0.76258439863497),
            (true, 0.093438836083654, 1.0, 0.9917900042022, 9.3767919273081, 9.4233746720577, 0.80224976883119),
            (false, 0.1897246896133, 0.9, 0.99003853856956, 4.4095058302063, 4.8510471307944, 0.68147663479037),
        ];
        let (p, noise) = (numbers(200, 1), numbers(200, 2));
        let q: Vec<f32> = p.iter().zip(noise).map(|(p, e)| p + e * 0.125).collect();
        for (found, expected) in compare(&p, &q, &[3, 17, 49, 0], 50).iter().zip(expected) {
            assert_eq!((found.top1_agrees, found.top10_overlap), (expected.0, expected.2));
            for (found, expected) in [
                (found.kl, expected.1),
                (found.cosine, expected.3),
                (found.baseline_nll, expected.4),
                (found.nll, expected.5),
                (found.coupled_agreement, expected.6),
            ] {
                assert!((found - expected).abs() < 1e-12 * expected, "{found}, {expected}");
            }
        }
    }
}
