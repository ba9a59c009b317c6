//! A scheme for each matrix: the least error under a budget of bits, or the fewest bits that reach an SQNR.
//!
//! The error of a model is taken to be the mean NMSE of its matrices, weighted by their number of weights, as in
//! `bench quality`: of their products with the inputs of a calibration, where there is one. It is minimal where another bit lowers the error of every matrix equally, so the algorithm is greedy:
//! it considers the schemes of each matrix on the convex hull of bits and error, and takes the steps along all hulls
//! in the order of their slope, steepest first. If a step exceeds the budget, smaller ones use what is left.

mod fits;

use std::{collections::BTreeMap, fmt, str::FromStr};

pub use fits::{Fits, Linear};

use crate::Scheme;

/// The schemes a mixture is made of.
pub const SCHEMES: [Scheme; 6] = [Scheme::Q3, Scheme::Q4, Scheme::Q5, Scheme::Q6, Scheme::Q8, Scheme::Q8g];

/// The scheme in which parts of a model are measured: coarse enough for its divergence to stand out from rounding.
pub const PROBE: Scheme = Scheme::Q4;

/// The goal of a mixture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// At most this many bits per weight, over all encoded matrices.
    Bits(f64),
    /// At least this SQNR in dB, of the mean error.
    Sqnr(f64),
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bits(bits) => write!(f, "bits={bits}"),
            Self::Sqnr(db) => write!(f, "sqnr={db}"),
        }
    }
}

impl FromStr for Goal {
    type Err = String;

    /// `bits=4.5` or `sqnr=40`.
    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("expected bits=NUMBER or sqnr=NUMBER, found `{text}`");
        let (name, value) = text.split_once('=').ok_or_else(error)?;
        let value: f64 = value.parse().ok().filter(|v: &f64| v.is_finite() && *v > 0.0).ok_or_else(error)?;
        match name {
            "bits" => Ok(Self::Bits(value)),
            "sqnr" => Ok(Self::Sqnr(value)),
            _ => Err(error()),
        }
    }
}

/// A matrix under one scheme.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// The scheme.
    pub scheme: Scheme,
    /// Bits per weight.
    pub bits: f64,
    /// The NMSE: of the products with the inputs of a calibration, if the fits have one, else of the weights, weighted by an importance if
    /// there is one.
    pub nmse: f64,
}

/// A matrix to choose for.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Its number of weights.
    pub weights: usize,
    /// Bits and error under each scheme.
    pub choices: Vec<Choice>,
}

/// How many bits per weight more than its goal a mixture may have: half of the last digit that is shown. What a matrix stores once, whatever its
/// size, puts one scheme for all above its own bits per weight.
pub const SLACK: f64 = 5e-4;

/// A mixture.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    /// The scheme of each matrix, in order.
    pub schemes: Vec<Scheme>,
    /// Bits per weight.
    pub bits: f64,
    /// The mean NMSE of the matrices, weighted by their number of weights.
    pub nmse: f64,
}

impl Mixture {
    /// How many matrices are in each scheme, as text: `28 × q3, 182 × q4`.
    pub fn counts(&self) -> String {
        let mut counts = BTreeMap::new();
        self.schemes.iter().for_each(|scheme| *counts.entry(*scheme).or_insert(0) += 1);
        let counts: Vec<String> = counts.into_iter().map(|(scheme, n)| format!("{n} × {scheme}")).collect();
        counts.join(", ")
    }
}

/// The mixture for a goal; of bits, within [`SLACK`].
///
/// # Errors
/// When no mixture reaches it; the message has the nearest.
pub fn choose(matrices: &[Matrix], goal: Goal) -> Result<Mixture, String> {
    let hulls: Vec<Vec<Choice>> = matrices.iter().map(|matrix| hull(&matrix.choices)).collect();
    let total: f64 = matrices.iter().map(|matrix| matrix.weights as f64).sum::<f64>().max(1.0);
    let share = |m: usize| matrices[m].weights as f64 / total;
    let mut chosen = vec![0; hulls.len()];
    let sum = |chosen: &[usize], of: fn(&Choice) -> f64| -> f64 {
        chosen.iter().enumerate().map(|(m, c)| hulls[m].get(*c).map_or(0.0, |choice| share(m) * of(choice))).sum()
    };
    let mut steps: Vec<(f64, usize, usize)> = (hulls.iter().enumerate())
        .flat_map(|(m, hull)| hull.windows(2).enumerate().map(move |(c, pair)| (slope(pair), m, c + 1)))
        .collect();
    steps.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    for (_, m, c) in steps {
        // Slopes decrease along a hull, so its steps come in order, unless one was skipped.
        if chosen[m] + 1 != c {
            continue;
        }
        match goal {
            Goal::Sqnr(db) if -10.0 * sum(&chosen, |c| c.nmse).log10() >= db => break,
            Goal::Sqnr(_) => chosen[m] = c,
            Goal::Bits(most) => {
                let more = share(m) * (hulls[m][c].bits - hulls[m][c - 1].bits);
                if sum(&chosen, |c| c.bits) + more <= most + SLACK {
                    chosen[m] = c;
                }
            }
        }
    }
    let (bits, nmse) = (sum(&chosen, |c| c.bits), sum(&chosen, |c| c.nmse));
    match goal {
        Goal::Bits(most) if bits > most + SLACK => {
            Err(format!("expected a mixture of {most} bits per weight, found none below {bits:.3}"))
        }
        Goal::Sqnr(db) if -10.0 * nmse.log10() < db => {
            Err(format!("expected a mixture that keeps {db} dB, found none above {:.1}", -10.0 * nmse.log10()))
        }
        _ => {
            let schemes = hulls.iter().zip(&chosen).filter_map(|(hull, c)| hull.get(*c)).map(|c| c.scheme);
            Ok(Mixture { schemes: schemes.collect(), bits, nmse })
        }
    }
}

/// The decrease of the error per bit.
fn slope(pair: &[Choice]) -> f64 {
    (pair[0].nmse - pair[1].nmse) / (pair[1].bits - pair[0].bits)
}

/// The choices on the lower convex hull, by size.
fn hull(choices: &[Choice]) -> Vec<Choice> {
    let mut sorted = choices.to_vec();
    sorted.sort_by(|a, b| a.bits.total_cmp(&b.bits).then(a.nmse.total_cmp(&b.nmse)));
    let mut hull: Vec<Choice> = Vec::new();
    for choice in sorted {
        if hull.last().is_some_and(|last| choice.nmse >= last.nmse || choice.bits <= last.bits) {
            continue;
        }
        while let [.., a, b] = hull[..]
            && slope(&[a, b]) <= slope(&[b, choice])
        {
            hull.pop();
        }
        hull.push(choice);
    }
    hull
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(weights: usize, factor: f64) -> Matrix {
        let bits = [3.4, 4.4, 5.4, 6.4, 8.0, 8.4];
        // The fifth is above the hull.
        let nmse = [2e-2, 5e-3, 1.2e-3, 3e-4, 2.9e-4, 2e-5];
        let choice = |((scheme, bits), nmse): ((Scheme, f64), f64)| Choice { scheme, bits, nmse: factor * nmse };
        Matrix { weights, choices: SCHEMES.into_iter().zip(bits).zip(nmse).map(choice).collect() }
    }

    /// Every possible mixture.
    fn all(matrices: &[Matrix]) -> Vec<(f64, f64)> {
        let total: f64 = matrices.iter().map(|m| m.weights as f64).sum();
        matrices.iter().fold(vec![(0.0, 0.0)], |sums, m| {
            let share = m.weights as f64 / total;
            let with = |(bits, nmse): (f64, f64)| {
                m.choices.iter().map(move |c| (bits + share * c.bits, nmse + share * c.nmse))
            };
            sums.into_iter().flat_map(with).collect()
        })
    }

    #[test]
    fn mixture_has_least_error_for_its_bits() {
        let matrices = [matrix(100, 1.0), matrix(100, 3.0), matrix(300, 0.2), matrix(50, 10.0)];
        let every = all(&matrices);
        let better =
            |bits: f64, nmse: f64| every.iter().filter(|(b, e)| *b <= bits + 1e-9 && *e < nmse - 1e-12).count();
        for db in 16..44 {
            let found = choose(&matrices, Goal::Sqnr(f64::from(db))).unwrap();
            assert_eq!(better(found.bits, found.nmse), 0, "{db}: {found:?}");
        }
        for bits in [3.4, 3.5, 4.0, 4.5, 5.0, 6.0, 7.5, 8.4, 20.0] {
            let found = choose(&matrices, Goal::Bits(bits)).unwrap();
            assert!(found.bits <= bits + 1e-6 && !found.schemes.contains(&Scheme::Q8), "{bits}: {found:?}");
            // The largest step there is takes 300/550 of 2 bits.
            assert_eq!(better(bits - 1.1, found.nmse), 0, "{bits}: {found:?}");
            assert!(bits - found.bits < 1.1 || found.bits > 8.39, "{bits}: {found:?}");
        }
        // The matrix with the larger error gets more bits.
        let found = choose(&matrices, Goal::Bits(4.5)).unwrap();
        assert!(found.schemes[3] < found.schemes[2], "{found:?}");
    }

    #[test]
    fn mixture_reaches_sqnr_goal_with_fewest_bits() {
        let matrices = [matrix(100, 1.0), matrix(100, 3.0)];
        for db in [10.0, 20.0, 25.0, 30.0, 40.0] {
            let found = choose(&matrices, Goal::Sqnr(db)).unwrap();
            assert!(-10.0 * found.nmse.log10() >= db, "{db}: {found:?}");
            let cheaper = choose(&matrices, Goal::Bits(found.bits - 1e-3));
            assert!(cheaper.is_err() || -10.0 * cheaper.unwrap().nmse.log10() < db, "{db}: {found:?}");
        }
    }

    #[test]
    fn unreachable_goal_is_rejected_with_the_nearest() {
        let error = |goal| choose(&[matrix(1, 1.0)], goal).unwrap_err();
        assert!(error(Goal::Bits(3.0)).contains("3.400"), "{}", error(Goal::Bits(3.0)));
        assert!(error(Goal::Sqnr(60.0)).contains("47.0"), "{}", error(Goal::Sqnr(60.0)));
        assert_eq!("bits=4.5".parse(), Ok(Goal::Bits(4.5)));
        assert_eq!("sqnr=40".parse(), Ok(Goal::Sqnr(40.0)));
        for wrong in ["4.5", "bits=", "bits=x", "bits=-1", "bits=inf", "kl=3", "sqnr=0"] {
            assert!(wrong.parse::<Goal>().unwrap_err().contains(wrong), "{wrong}");
        }
    }
}
