//! The choice of the next token.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Sampler {
    /// The likeliest, the lowest id among equals.
    #[default]
    Greedy,
    /// Drawn at random from softmax(logits / temperature). Each token of the vocabulary has a random number of its own at each
    /// step, so that two models under one seed draw the same token unless it is their distributions that differ there.
    Random {
        /// Above 0; at 1 the model's own distribution.
        temperature: f32,
        /// Fixes all random numbers of a text.
        seed: u64,
    },
}

/// A sampler amid a text.
#[derive(Debug)]
pub(crate) struct Choice {
    sampler: Sampler,
    numbers: ChaCha8Rng,
}

impl Sampler {
    pub(crate) fn start(self) -> Choice {
        let seed = if let Self::Random { seed, .. } = self { seed } else { 0 };
        Choice { sampler: self, numbers: ChaCha8Rng::seed_from_u64(seed) }
    }
}

impl Choice {
    /// The next token, if any logit is finite.
    pub(crate) fn next(&mut self, logits: &[f32]) -> Option<u32> {
        match self.sampler {
            Sampler::Greedy => argmax(logits),
            Sampler::Random { temperature, .. } => draw(logits, temperature, || self.numbers.random()),
        }
    }
}

/// The index of the largest finite logit, the lowest among equals.
fn argmax(logits: &[f32]) -> Option<u32> {
    let finite = logits.iter().enumerate().filter(|(_, l)| l.is_finite());
    let best = finite.reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map(|(i, _)| i as u32)
}

/// The winner of a race: each token's clock rings after −ln(u) / probability for a `number` u in [0, 1) of its own, and the
/// first to ring is drawn with its probability (the Gumbel-max trick, without the logarithm of a logarithm). Logits that are
/// not finite do not ring.
fn draw(logits: &[f32], temperature: f32, mut number: impl FnMut() -> f64) -> Option<u32> {
    let largest = f64::from(logits[argmax(logits)? as usize]);
    let mut first = (f64::INFINITY, None);
    for (id, &logit) in logits.iter().enumerate() {
        // Drawn for every token, so that each has the same numbers whatever the others are.
        let number: f64 = 1.0 - number();
        if logit.is_finite() {
            let rings = -number.ln() / ((f64::from(logit) - largest) / f64::from(temperature)).exp();
            if rings < first.0 || first.1.is_none() {
                first = (rings, Some(id as u32));
            }
        }
    }
    first.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_clock_that_rings_is_drawn() {
        // Probabilities ¼, 0, ½, ¼; numbers u, of which 1 − u is the logarithm taken.
        let logits = [0.0, f32::NEG_INFINITY, 2.0_f32.ln(), 0.0];
        let with = |numbers: [f64; 4], temperature| {
            let mut numbers = numbers.into_iter();
            draw(&logits, temperature, || numbers.next().unwrap())
        };
        // −ln ½ = 0.69 against −ln 0.3 / 2 = 0.60 and −ln 0.6 = 0.51.
        assert_eq!(with([0.5, 0.0, 0.7, 0.4], 1.0), Some(3));
        // Squared, the likeliest is four times as fast: −ln 0.3 / 4 = 0.30.
        assert_eq!(with([0.5, 0.0, 0.7, 0.4], 0.5), Some(2));
        assert_eq!(with([0.2, 0.0, 0.7, 0.4], 1.0), Some(0));
        assert_eq!((draw(&[f32::NAN; 2], 1.0, || 0.5), draw(&[f32::NAN, 3.0], 1.0, || 0.0)), (None, Some(1)));
    }

    #[test]
    fn tokens_are_drawn_as_often_as_they_are_likely() {
        let logits = [1.0_f32, 3.0, 6.0].map(f32::ln);
        let draws = |seed| {
            let mut choice = Sampler::Random { temperature: 1.0, seed }.start();
            std::iter::repeat_with(move || choice.next(&logits).unwrap()).take(20_000).collect::<Vec<_>>()
        };
        let ids = draws(7);
        for (id, share) in [(0, 0.1), (1, 0.3), (2, 0.6)] {
            let found = ids.iter().filter(|i| **i == id).count() as f64 / 20_000.0;
            // Four standard errors of a share of one half.
            assert!((found - share).abs() < 0.0142, "{id}: {found}");
        }
        assert_eq!(ids, draws(7));
        assert_ne!(ids, draws(8));
    }

    #[test]
    fn the_likeliest_is_the_first_of_the_largest_that_is_finite() {
        assert_eq!(argmax(&[1.0, f32::INFINITY, 2.0, 2.0, f32::NAN]), Some(2));
        assert_eq!(argmax(&[f32::NAN]), None);
    }
}
