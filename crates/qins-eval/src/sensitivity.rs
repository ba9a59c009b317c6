//! Sensitivity analysis: the divergence when only one part of a model is encoded and all else stays plain.

use std::collections::BTreeSet;

use qins_model::{CalibrationTexts, LinearKind, LinearSpec, Override, Policy, Targets, linears};
use qins_quant::Recipe;

use crate::{
    Error,
    agreement::Divergence,
    comparison::Comparison,
    estimate::{self, Estimate},
    model::EvalModel,
    report::Sensitivity,
};

/// A part of a model, and the policy that encodes it alone.
#[derive(Clone, Debug)]
pub struct Part {
    name: String,
    policy: Policy,
}

/// One part per block, named `block N`; embedding and head are in no block and are left out. Linears are encoded with the scheme
/// and options of `policy`.
pub fn blocks(specs: &[LinearSpec], policy: &Policy) -> Vec<Part> {
    let blocks: BTreeSet<usize> = specs.iter().filter_map(block).collect();
    let part = |i: usize| Part::new(&format!("block {i}"), specs.iter().filter(|spec| block(spec) == Some(i)), policy);
    blocks.into_iter().map(part).collect()
}

/// One part per role of linears, in all blocks, named after the role (`q_proj`).
pub fn roles(specs: &[LinearSpec], policy: &Policy) -> Vec<Part> {
    let kinds: BTreeSet<LinearKind> = specs.iter().map(|spec| spec.kind).collect();
    let part = |kind: LinearKind| Part::new(kind.name(), specs.iter().filter(|spec| spec.kind == kind), policy);
    kinds.into_iter().map(part).collect()
}

/// Cumulative parts: the linears of [`Targets::Safe`], then these with q and k, with the embedding, with the head, and all linears.
pub fn ablations(specs: &[LinearSpec], policy: &Policy) -> Vec<Part> {
    use LinearKind::{Embedding, Head, K, Q};
    let with = |name: &str, more: &[LinearKind]| {
        let encoded = specs.iter().filter(|spec| Targets::Safe.contains(spec.kind) || more.contains(&spec.kind));
        Part::new(name, encoded, policy)
    };
    let mut parts = vec![with("v, o, gate, up, down", &[]), with("these and q, k", &[Q, K])];
    if specs.iter().any(|spec| spec.kind == Head) {
        parts.extend([with("these and the embedding", &[Embedding]), with("these and the head", &[Head])]);
    } else {
        parts.push(with("these and the embedding, which is the head", &[Embedding]));
    }
    parts.push(with("all", &[Q, K, Embedding, Head]));
    parts
}

/// The block that contains a linear.
pub(crate) fn block(spec: &LinearSpec) -> Option<usize> {
    spec.module.strip_prefix("model.layers.")?.split('.').next()?.parse().ok()
}

impl Part {
    /// These linears, encoded with the recipe of `policy`.
    fn new<'a>(name: &str, specs: impl Iterator<Item = &'a LinearSpec>, policy: &Policy) -> Self {
        // No targets: the overrides name every linear that is encoded.
        let nothing = Targets::Kinds(BTreeSet::new());
        let recipe = Recipe { importance: None, ..policy.recipe.clone() };
        let overrides = specs.map(|spec| Override::of(&spec.module, Some(recipe.scheme))).collect();
        let policy = Policy { overrides, importance: policy.importance.clone(), ..Policy::new(nothing, recipe) };
        Self { name: name.to_owned(), policy }
    }

    /// Its name in the report.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Encodes the part, compares the model's predictions with the baseline's, and restores the weights, also on errors.
    ///
    /// # Errors
    /// [`Error::Model`] when the part cannot be encoded or the model fails; [`Error::Settings`] when there are no tokens to predict.
    pub fn measure(&self, comparison: &Comparison<'_>, model: &mut dyn EvalModel) -> Result<Sensitivity, Error> {
        let encoded = linears(model.config()).into_iter().filter(|spec| self.policy.recipe(spec).is_some());
        let weights = encoded.map(|spec| (spec.shape[0] * spec.shape[1]) as u64).sum();
        model.apply(&self.policy).map_err(Error::Model)?;
        let found = compare(comparison, model, &self.name)?;
        let (top1_agreement, mean_kl) = (Some(found.top1_agreement()), Some(found.kl()));
        let (scheme, part) = (self.policy.recipe.scheme.to_string(), self.name.clone());
        Ok(Sensitivity { scheme, part, weights, top1_agreement, mean_kl })
    }
}

/// Compares the predictions of a model, some of whose linears are encoded, with the baseline's, and restores the weights, also on
/// errors.
pub(crate) fn compare(
    comparison: &Comparison<'_>,
    model: &mut dyn EvalModel,
    name: &str,
) -> Result<Divergences, Error> {
    let found = comparison.divergences(model, name);
    model.restore();
    let found = Divergences(found?);
    let expected = || Error::Settings("expected at least one token to predict, found none".to_owned());
    if found.0.iter().all(Vec::is_empty) { Err(expected()) } else { Ok(found) }
}

/// How predictions differ from the baseline's: one list per passage, at least one of which has a position.
pub(crate) struct Divergences(Vec<Vec<Divergence>>);

impl Divergences {
    /// The share of positions with the same top-1 token.
    pub(crate) fn top1_agreement(&self) -> Estimate {
        self.mean(|found| f64::from(u8::from(found.top1_agrees)))
    }

    /// The mean KL divergence.
    pub(crate) fn kl(&self) -> Estimate {
        self.mean(|found| found.kl)
    }

    /// The mean over passages of the logarithm of the ratio of their KL divergences to those of another model: none counts for more than
    /// another, as those that have most of a mean divergence do. Passages where either is zero or no number are left out. `None` for fewer than
    /// [`CalibrationTexts::HELD_OUT`].
    pub(crate) fn ln_kl_ratio(&self, other: &Self) -> Option<Estimate> {
        let sum = |passage: &[Divergence]| passage.iter().map(|found| found.kl).sum::<f64>();
        let ratio = |(one, other): (&Vec<Divergence>, &Vec<Divergence>)| (sum(one) / sum(other)).ln();
        let ratios = self.0.iter().zip(&other.0).map(ratio).filter(|ratio| ratio.is_finite());
        let ratios: Vec<Vec<f64>> = ratios.map(|ratio| vec![ratio]).collect();
        estimate::mean_by_prompt(&ratios).filter(|_| ratios.len() >= CalibrationTexts::HELD_OUT)
    }

    /// Whether it is known to change less than another model: by the whole interval of the ratio, and in the mean too.
    pub(crate) fn is_less_than(&self, other: &Self) -> bool {
        self.ln_kl_ratio(other).is_some_and(|ratio| ratio.high < 0.0) && self.kl().value < other.kl().value
    }

    fn mean(&self, of: impl Fn(&Divergence) -> f64) -> Estimate {
        let passages: Vec<Vec<f64>> = self.0.iter().map(|passage| passage.iter().map(&of).collect()).collect();
        estimate::mean_by_prompt(&passages).unwrap_or(Estimate { value: f64::NAN, low: f64::NAN, high: f64::NAN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passages of two positions with these mean divergences.
    fn divergences(means: &[f64]) -> Divergences {
        let position = |kl| Divergence { top1_agrees: true, kl };
        Divergences(means.iter().map(|mean| vec![position(0.5 * mean), position(1.5 * mean)]).collect())
    }

    #[test]
    fn less_is_known_by_most_passages_and_the_mean() {
        let first = divergences(&[1.0, 2.0, 1.0, 4.0, 1.0, 3.0, 2.0, 50.0]);
        let is_less = |means: &[f64]| divergences(means).is_less_than(&first);
        assert!(is_less(&[0.8, 1.7, 0.9, 3.0, 0.7, 2.4, 1.7, 45.0]));
        let ratio = divergences(&[0.5, 1.0, 0.5, 2.0, 0.5, 1.5, 1.0, 25.0]).ln_kl_ratio(&first).unwrap();
        assert!([ratio.low, ratio.value, ratio.high].iter().all(|ln| (ln - 0.5_f64.ln()).abs() < 1e-12), "{ratio:?}");
        // Less in the mean, by one passage alone; and less in most passages, but not in the mean.
        assert!(!is_less(&[1.1, 2.1, 0.9, 4.1, 1.1, 3.1, 2.1, 10.0]));
        assert!(!is_less(&[0.8, 1.7, 0.9, 3.0, 0.7, 2.4, 1.7, 55.0]));
        assert!(!is_less(&[1.0, 2.0, 1.0, 4.0, 1.0, 3.0, 2.0, 50.0]));
        // Beside eight passages that change less, one whose divergence is no number.
        for (nan, less) in [(f64::NAN, false), (-f64::NAN, false), (0.5, true)] {
            let (one, other) = ([vec![0.5; 8], vec![nan]].concat(), [1.0; 9]);
            assert_eq!(divergences(&one).is_less_than(&divergences(&other)), less, "{nan}");
        }
        // Of seven passages nothing is known.
        assert!(!divergences(&[0.5; 7]).is_less_than(&divergences(&[1.0; 7])));
        assert!(divergences(&[0.5; 8]).is_less_than(&divergences(&[1.0; 8])));
    }
}
