//! Sampling of the next token.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Settings of sampling. The default is greedy decoding: the top-1 token, the lowest id among equals.
///
/// The steps are those of Transformers, in its order: repetition penalty, temperature, `top_k`, `top_p`, `min_p`, then a sample. It is
/// taken by the Gumbel-max trick with common random numbers: each token of the vocabulary has a random number of its own at each
/// step, fixed by the seed. Two models with one seed therefore sample the same token wherever their distributions are equal, and
/// nearly always where they are close (the Gumbel-max coupling).
///
/// At temperature 0 `top_k`, `top_p`, `min_p` and the seed change nothing, as the top-1 token passes every filter. Arithmetic is in
/// `f64`, so that no setting in range overflows: the smallest temperature is greedy decoding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Divisor of the logits; 0 is greedy decoding.
    pub temperature: f32,
    /// Sample among the `top_k` most probable tokens, and those tied with the last of them; 0 for all.
    pub top_k: usize,
    /// Nucleus sampling: among the most probable tokens that together reach this probability; 1 for all.
    pub top_p: f32,
    /// Sample among tokens with at least this share of the largest probability; 0 for all.
    pub min_p: f32,
    /// Divisor of positive logits, and factor of negative ones, of tokens already in the context; 1 for none.
    pub repetition_penalty: f32,
    /// Seed of all random numbers of a text.
    pub seed: u64,
}

impl Default for Sampler {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, seed: 0 }
    }
}

impl Sampler {
    /// Starts a text.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub fn start(self) -> Result<TokenChoice, SamplerError> {
        let Self { temperature, top_p, min_p, repetition_penalty, .. } = self;
        let settings = [
            ("temperature", temperature, "a finite number of at least 0", temperature >= 0.0),
            ("top_p", top_p, "a share above 0 and at most 1", top_p > 0.0 && top_p <= 1.0),
            ("min_p", min_p, "a share from 0 to 1", (0.0..=1.0).contains(&min_p)),
            ("repetition_penalty", repetition_penalty, "a finite number above 0", repetition_penalty > 0.0),
        ];
        match settings.into_iter().find(|(_, found, _, fits)| !fits || !found.is_finite()) {
            Some((name, found, expected, _)) => Err(SamplerError { name, expected, found }),
            None => Ok(TokenChoice { sampler: self, numbers: ChaCha8Rng::seed_from_u64(self.seed) }),
        }
    }

    /// The logits after penalty, temperature and filters, with −∞ for excluded tokens; `read` is the context.
    fn adjust(&self, logits: &[f32], read: &[u32]) -> Vec<f64> {
        let mut logits: Vec<f64> = logits.iter().map(|logit| f64::from(*logit)).collect();
        let penalty = f64::from(self.repetition_penalty);
        if self.repetition_penalty != 1.0 {
            let mut seen = vec![false; logits.len()];
            for &id in read {
                // Once per token id, however often it occurs.
                if let (Some(logit), Some(seen @ false)) = (logits.get_mut(id as usize), seen.get_mut(id as usize)) {
                    *seen = true;
                    *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
                }
            }
        }
        if self.temperature > 0.0 {
            logits.iter_mut().for_each(|logit| *logit /= f64::from(self.temperature));
            self.restrict(&mut logits);
        }
        logits
    }

    /// Applies `top_k`, `top_p` and `min_p`.
    fn restrict(&self, logits: &mut [f64]) {
        let mut least = f64::NEG_INFINITY;
        if self.top_k > 0 && self.top_k < logits.len() {
            let mut sorted = logits.to_vec();
            let (_, kth, _) = sorted.select_nth_unstable_by(self.top_k - 1, |a, b| b.total_cmp(a));
            least = *kth;
            forbid(logits, |logit| logit < least);
        }
        let largest = logits.iter().copied().filter(|l| l.is_finite()).fold(f64::NEG_INFINITY, f64::max);
        let weight = |logit: f64| if logit.is_finite() { (logit - largest).exp() } else { 0.0 };
        if self.top_p < 1.0 {
            let mut sorted: Vec<f64> = logits.iter().copied().filter(|l| l.is_finite()).collect();
            sorted.sort_unstable_by(|a, b| b.total_cmp(a));
            let mut left = f64::from(self.top_p) * sorted.iter().map(|l| weight(*l)).sum::<f64>();
            for logit in sorted {
                if left <= 0.0 {
                    break;
                }
                least = logit;
                left -= weight(logit);
            }
            forbid(logits, |logit| logit < least);
        }
        if self.min_p > 0.0 {
            forbid(logits, |logit| weight(logit) < f64::from(self.min_p));
        }
    }
}

fn forbid(logits: &mut [f64], which: impl Fn(f64) -> bool) {
    logits.iter_mut().filter(|logit| which(**logit)).for_each(|logit| *logit = f64::NEG_INFINITY);
}

/// A setting of a [`Sampler`] that is out of range.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("expected {expected} as {name}, found {found}")]
#[non_exhaustive]
pub struct SamplerError {
    /// The setting.
    pub name: &'static str,
    /// Its range.
    pub expected: &'static str,
    /// Its value.
    pub found: f32,
}

/// A sampler with the state of its random numbers, for one text.
#[derive(Debug)]
pub struct TokenChoice {
    sampler: Sampler,
    numbers: ChaCha8Rng,
}

impl TokenChoice {
    /// The token after the context `read`. Tokens with a logit of −∞ are excluded; `None` when a logit is NaN or +∞, or none is
    /// left.
    pub fn next(&mut self, logits: &[f32], read: &[u32]) -> Option<u32> {
        if !logits.iter().fold(true, |all, logit| all & (*logit < f32::INFINITY)) {
            return None;
        }
        let plain = Sampler { seed: self.sampler.seed, ..Sampler::default() };
        if self.sampler == plain {
            return argmax(logits);
        }
        let adjusted = self.sampler.adjust(logits, read);
        if self.sampler.temperature > 0.0 { sample(&adjusted, || self.numbers.random()) } else { argmax(&adjusted) }
    }
}

/// The index of the largest logit that is not −∞, the lowest among equals.
fn argmax<T: Copy + PartialOrd + Into<f64>>(logits: &[T]) -> Option<u32> {
    let left = logits.iter().enumerate().filter(|(_, logit)| (**logit).into() > f64::NEG_INFINITY);
    let best = left.reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map(|(i, _)| i as u32)
}

/// Samples by the Gumbel-max trick, in its exponential form: the token with the least −ln(u) / p, for a `number` u in [0, 1) of its
/// own, is sampled with probability p. It avoids the logarithm of a logarithm. Tokens without a finite logit are never sampled.
fn sample(logits: &[f64], mut number: impl FnMut() -> f64) -> Option<u32> {
    let largest = logits[argmax(logits)? as usize];
    let mut least = (f64::INFINITY, None);
    for (id, &logit) in logits.iter().enumerate() {
        // Generated for every token, so that each has the same number whatever the others' logits are.
        let number: f64 = 1.0 - number();
        if logit.is_finite() {
            let arrival = -number.ln() / (logit - largest).exp();
            if arrival < least.0 || least.1.is_none() {
                least = (arrival, Some(id as u32));
            }
        }
    }
    least.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_is_the_token_with_the_least_arrival_time() {
        // Probabilities ¼, 0, ½, ¼; numbers u, of which 1 − u is the logarithm taken.
        let logits = [0.0, f64::NEG_INFINITY, 2.0_f64.ln(), 0.0];
        let with = |numbers: [f64; 4]| {
            let mut numbers = numbers.into_iter();
            sample(&logits, || numbers.next().unwrap())
        };
        // −ln ½ = 0.69 against −ln 0.3 / 2 = 0.60 and −ln 0.6 = 0.51.
        assert_eq!(with([0.5, 0.0, 0.7, 0.4]), Some(3));
        assert_eq!(with([0.5, 0.0, 0.6, 0.4]), Some(2));
        assert_eq!(with([0.2, 0.0, 0.7, 0.4]), Some(0));
        const NO: f64 = f64::NEG_INFINITY;
        assert_eq!((sample(&[NO; 2], || 0.5), sample(&[NO, 3.0], || 0.0)), (None, Some(1)));
    }

    #[test]
    fn sampled_frequencies_equal_the_probabilities() {
        let logits = [1.0_f32, 3.0, 6.0].map(f32::ln);
        let draws = |temperature, seed| {
            let mut choice = Sampler { temperature, seed, ..Sampler::default() }.start().unwrap();
            std::iter::repeat_with(move || choice.next(&logits, &[]).unwrap()).take(20_000).collect::<Vec<_>>()
        };
        // At temperature ½ probabilities are squared.
        for (temperature, shares) in [(1.0, [0.1, 0.3, 0.6]), (0.5, [1.0 / 46.0, 9.0 / 46.0, 36.0 / 46.0])] {
            let ids = draws(temperature, 7);
            for (id, share) in shares.into_iter().enumerate() {
                let found = ids.iter().filter(|i| **i == id as u32).count() as f64 / 20_000.0;
                // Four standard errors of a share of one half.
                assert!((found - share).abs() < 0.0142, "{temperature}, {id}: {found}");
            }
        }
        assert_eq!(draws(1.0, 7), draws(1.0, 7));
        assert_ne!(draws(1.0, 7), draws(1.0, 8));
    }

    #[test]
    fn filters_equal_those_of_transformers() {
        const NO: f32 = f32::NEG_INFINITY;
        const NONE: f64 = f64::NEG_INFINITY;
        // Probabilities 0.5, 0.25, 0.125 and 0.125.
        let logits = [3.0, 2.0, 1.0, 1.0].map(|power: f32| power * 2.0_f32.ln());
        let left =
            |sampler: Sampler| -> Vec<bool> { sampler.adjust(&logits, &[]).into_iter().map(f64::is_finite).collect() };
        let at = Sampler { temperature: 1.0, ..Sampler::default() };
        assert_eq!(left(Sampler { top_k: 1, ..at }), [true, false, false, false]);
        // Tokens tied with the last one stay.
        assert_eq!(left(Sampler { top_k: 3, ..at }), [true; 4]);
        assert_eq!(left(Sampler { top_p: 0.49, ..at }), [true, false, false, false]);
        assert_eq!(left(Sampler { top_p: 0.51, ..at }), [true, true, false, false]);
        assert_eq!(left(Sampler { top_p: 0.0001, ..at }), [true, false, false, false]);
        assert_eq!(left(Sampler { min_p: 0.49, ..at }), [true, true, false, false]);
        // Of what top-k leaves, ⅔ and ⅓.
        assert_eq!(left(Sampler { top_k: 2, top_p: 0.6, ..at }), [true, false, false, false]);
        // At temperature ½ the second token has ¼ of the largest probability.
        assert_eq!(left(Sampler { temperature: 0.5, min_p: 0.3, ..at }), [true, false, false, false]);
        let penalty = Sampler { repetition_penalty: 2.0, ..Sampler::default() };
        assert_eq!(penalty.adjust(&[4.0, -4.0, 3.0, NO], &[0, 1, 1, 9, 0]), [2.0, -8.0, 3.0, NONE]);
        // The top-1 token loses its lead when it is in the context.
        assert_eq!(penalty.start().unwrap().next(&[4.0, -4.0, 3.0], &[0]), Some(2));
    }

    #[test]
    fn argmax_is_the_first_of_the_largest_logits() {
        assert_eq!(argmax(&[1.0_f32, 2.0, 2.0, f32::NEG_INFINITY]), Some(1));
        assert_eq!(argmax(&[f32::NEG_INFINITY]), None);
    }

    #[test]
    fn nan_and_infinity_are_never_passed_over() {
        for temperature in [0.0, 1.0] {
            let next =
                |logits: &[f32]| Sampler { temperature, ..Sampler::default() }.start().unwrap().next(logits, &[]);
            for bad in [f32::NAN, f32::INFINITY] {
                assert_eq!((next(&[1.0, bad, 2.0]), next(&[bad])), (None, None), "{temperature}, {bad}");
            }
            assert_eq!((next(&[f32::NEG_INFINITY; 2]), next(&[f32::NEG_INFINITY, -3e38])), (None, Some(1)));
        }
    }

    #[test]
    fn extreme_settings_in_range_do_not_overflow() {
        let logits = [3.0, 3.5, -1.0, 2.0];
        let next = |sampler: Sampler| sampler.start().unwrap().next(&logits, &[0, 2]);
        for temperature in [f32::from_bits(1), 1e-38, 1e-30, 1e-4] {
            for sampler in [
                Sampler { temperature, ..Sampler::default() },
                Sampler { temperature, top_k: 3, top_p: 0.9, min_p: 0.1, ..Sampler::default() },
                Sampler { temperature, repetition_penalty: f32::MAX, ..Sampler::default() },
            ] {
                assert_eq!(next(sampler), Some(1), "{sampler:?}");
            }
            // Divided by next to nothing, the logit of a token in the context is the largest by far.
            let boosted = Sampler { temperature, repetition_penalty: f32::MIN_POSITIVE, ..Sampler::default() };
            assert_eq!(next(boosted), Some(0), "{temperature}");
        }
        // The other end: equal probabilities.
        let flat = Sampler { temperature: f32::MAX, ..Sampler::default() };
        let mut choice = flat.start().unwrap();
        let mut seen = [false; 4];
        (0..200).for_each(|_| seen[choice.next(&logits, &[]).unwrap() as usize] = true);
        assert_eq!(seen, [true; 4]);
    }

    #[test]
    fn setting_out_of_range_is_named() {
        let at = Sampler::default();
        for (sampler, message) in [
            (Sampler { temperature: -1.0, ..at }, "expected a finite number of at least 0 as temperature, found -1"),
            (Sampler { temperature: f32::NAN, ..at }, "as temperature, found NaN"),
            (Sampler { temperature: f32::INFINITY, ..at }, "as temperature, found inf"),
            (Sampler { top_p: 0.0, ..at }, "expected a share above 0 and at most 1 as top_p, found 0"),
            (Sampler { top_p: 1.5, ..at }, "as top_p, found 1.5"),
            (Sampler { min_p: -0.5, ..at }, "expected a share from 0 to 1 as min_p, found -0.5"),
            (Sampler { min_p: f32::NAN, ..at }, "as min_p, found NaN"),
            (
                Sampler { repetition_penalty: 0.0, ..at },
                "expected a finite number above 0 as repetition_penalty, found 0",
            ),
        ] {
            let error = sampler.start().unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        assert!(Sampler { top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, ..at }.start().is_ok());
    }
}
