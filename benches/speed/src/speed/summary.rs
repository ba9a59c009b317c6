//! Measurements of several rounds, summed up.

use serde::Serialize;

use super::measure::Run;

/// The middle of some measurements, and the least and the most of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

/// What was measured of a variant at a prompt of some length, a run for each round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) variant: String,
    pub(crate) prompt: u32,
    /// Whether it is one of our schemes.
    pub(crate) ours: bool,
    pub(crate) runs: Vec<Run>,
}

impl Spread {
    /// Of at least one number.
    pub(crate) fn of(numbers: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = numbers.collect();
        sorted.sort_by(f64::total_cmp);
        let at = |i: usize| sorted.get(i).copied().unwrap_or(f64::NAN);
        let (n, middle) = (sorted.len(), sorted.len() / 2);
        let median = if n.is_multiple_of(2) { (at(middle.wrapping_sub(1)) + at(middle)) / 2.0 } else { at(middle) };
        Self { min: at(0), median, max: at(n.wrapping_sub(1)) }
    }
}

impl Summary {
    pub(crate) fn decode(&self) -> Spread {
        self.of(|run| run.decode_tokens_per_second)
    }

    pub(crate) fn prefill(&self) -> Spread {
        self.of(|run| run.prefill_tokens_per_second)
    }

    pub(crate) fn of(&self, number: impl Fn(&Run) -> f64) -> Spread {
        Spread::of(self.runs.iter().map(number))
    }

    /// What decoding reads, as a share of what the machine reads, each measured in the same process.
    pub(crate) fn share(&self) -> Option<Spread> {
        let shares: Option<Vec<f64>> =
            self.runs.iter().map(|run| Some(run.decode_gb_per_second / run.read_gb_per_second?)).collect();
        shares.map(|shares| Spread::of(shares.into_iter()))
    }

    /// The ratio to another, round by round.
    pub(crate) fn ratio(&self, other: &Self, number: impl Fn(&Run) -> f64) -> Spread {
        Spread::of(self.runs.iter().zip(&other.runs).map(|(own, other)| number(own) / number(other)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_in_the_middle() {
        let spread = |numbers: &[f64]| Spread::of(numbers.iter().copied());
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Spread { min: 1.0, median: 2.0, max: 3.0 });
        assert_eq!(spread(&[4.0, 1.0]), Spread { min: 1.0, median: 2.5, max: 4.0 });
        assert!(spread(&[]).median.is_nan());
    }
}
