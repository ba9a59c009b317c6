//! Metrics with 95 % confidence intervals: bootstrap by prompt for means and medians, exact binomial for shares of prompts.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{Beta, ContinuousCDF};

/// A metric with its 95 % confidence interval, in the metric's unit.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, schemars::JsonSchema)]
pub struct Estimate {
    /// The point estimate.
    pub value: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end of the 95 % interval.
    pub high: f64,
}

const RESAMPLES: usize = 2000;
const SEED: u64 = 0x51_4e_53;

/// The mean over all tokens of all prompts, with a cluster-bootstrap interval: whole prompts are resampled, because tokens of one
/// prompt are not independent and resampling single tokens would give too narrow an interval (Efron and Tibshirani, "An
/// introduction to the bootstrap", 1993). Percentile method, 2,000 resamples, fixed seed: the same input gives the same bits.
///
/// `prompts` has one list of per-token values per prompt; lists may be empty. `None` when there is no value at all.
pub fn mean_by_prompt(prompts: &[Vec<f64>]) -> Option<Estimate> {
    let sums: Vec<(f64, usize)> = prompts.iter().map(|tokens| (tokens.iter().sum(), tokens.len())).collect();
    let mean = |picked: &mut dyn Iterator<Item = &(f64, usize)>| {
        let (sum, n) = picked.fold((0.0, 0), |(sum, n), (s, m)| (sum + s, n + m));
        (n > 0).then(|| sum / n as f64)
    };
    bootstrap(&sums, mean)
}

/// The median of one value per prompt, such as the length of the matching prefix, with a bootstrap interval as in
/// [`mean_by_prompt`].
///
/// `None` when `prompts` is empty.
pub fn median(prompts: &[f64]) -> Option<Estimate> {
    bootstrap(prompts, |picked| quantile(&picked.copied().collect::<Vec<_>>(), 0.5))
}

/// A statistic of `prompts`, and the middle 95 % of its values over resamples of as many prompts with replacement.
fn bootstrap<T>(prompts: &[T], statistic: impl Fn(&mut dyn Iterator<Item = &T>) -> Option<f64>) -> Option<Estimate> {
    let value = statistic(&mut prompts.iter())?;
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut resampled: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| statistic(&mut (0..prompts.len()).map(|_| &prompts[rng.random_range(0..prompts.len())])))
        .collect();
    resampled.sort_by(f64::total_cmp);
    let at = |q: f64| resampled[((resampled.len() - 1) as f64 * q).round() as usize];
    Some(Estimate { value, low: at(0.025), high: at(0.975) })
}

/// The share `hits / n` with its exact binomial interval (Clopper and Pearson, 1934), which is not empty at 0 and at 1: no failure
/// in `n` trials does not prove a rate of 100 %.
///
/// `None` when `n` is 0, or `hits` exceeds `n`.
///
/// ```
/// // Ten matching tokens of ten bound the agreement from below at 69 % only.
/// let e = qins_eval::estimate::share(10, 10).unwrap();
/// assert!((e.low - 0.6915).abs() < 1e-4 && e.high == 1.0);
/// ```
pub fn share(hits: u64, n: u64) -> Option<Estimate> {
    let quantile = |a: u64, b: u64, q: f64| Beta::new(a as f64, b as f64).map(|beta| beta.inverse_cdf(q)).ok();
    if hits > n {
        return None;
    }
    let low = if hits == 0 { Some(0.0) } else { quantile(hits, n - hits + 1, 0.025) };
    let high = if hits == n { Some(1.0) } else { quantile(hits + 1, n - hits, 0.975) };
    (n > 0).then_some(Estimate { value: hits as f64 / n as f64, low: low?, high: high? })
}

/// The `q` quantile of `values` by nearest rank, `q` from 0 to 1. `None` when `values` is empty; NaN when one of them is NaN.
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    if values.iter().any(|v| v.is_nan()) {
        return Some(f64::NAN);
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (q * sorted.len() as f64).ceil().max(1.0) as usize - 1;
    sorted.get(rank.min(sorted.len().saturating_sub(1))).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_has_the_clopper_pearson_interval() {
        // Clopper–Pearson for 8 of 10, from tables.
        let e = share(8, 10).unwrap();
        assert!((e.low - 0.4439).abs() < 1e-4 && (e.high - 0.9748).abs() < 1e-4, "{e:?}");
        assert_eq!(share(0, 10).unwrap().low, 0.0);
        assert_eq!((share(0, 0), share(3, 2)), (None, None));
    }

    #[test]
    fn mean_by_prompt_resamples_prompts_not_tokens() {
        // Two prompts that disagree, without variance within a prompt: the uncertainty is between prompts.
        let prompts = vec![vec![0.0; 100], vec![1.0; 100]];
        let e = mean_by_prompt(&prompts).unwrap();
        assert_eq!((e.value, e.low, e.high), (0.5, 0.0, 1.0));
        // Equal values have no uncertainty.
        let e = mean_by_prompt(&[vec![0.25; 3], vec![0.25; 9]]).unwrap();
        assert_eq!((e.value, e.low, e.high), (0.25, 0.25, 0.25));
        assert_eq!(mean_by_prompt(&[vec![]]), None);
    }

    #[test]
    fn mean_by_prompt_interval_is_about_two_standard_errors() {
        let prompts: Vec<Vec<f64>> = (0..400).map(|i| vec![f64::from(i % 2)]).collect();
        let e = mean_by_prompt(&prompts).unwrap();
        // σ/√n = 0.5/20
        assert!((e.high - e.low - 2.0 * 1.96 * 0.025).abs() < 0.01, "{e:?}");
    }

    #[test]
    fn median_has_the_interval_of_its_order_statistics() {
        // Of 101 ordered numbers the binomial interval of the median reaches from the 41st to the 61st.
        let e = median(&(1..=101).map(f64::from).collect::<Vec<_>>()).unwrap();
        assert_eq!(e.value, 51.0);
        assert!((e.low - 41.0).abs() <= 2.0 && (e.high - 61.0).abs() <= 2.0, "{e:?}");
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn quantile_is_nearest_rank_and_propagates_nan() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile(&values, 0.5), Some(50.0));
        assert_eq!(quantile(&values, 0.99), Some(99.0));
        assert_eq!(quantile(&values, 1.0), Some(100.0));
        assert_eq!(quantile(&[], 0.5), None);
        // The NaN that processors make has its sign set, and sorts before every number.
        assert!(quantile(&[-f64::NAN, 0.0], 1.0).is_some_and(f64::is_nan));
    }
}
