//! What is lost when one part of a model is encoded and all else is plain.

use std::collections::BTreeSet;

use qins_model::{LinearKind, LinearSpec, Override, Policy, Targets, linears};
use qins_quant::Recipe;

use crate::{
    Error,
    comparison::Comparison,
    model::{EvalModel, Scoring},
    report::{Forced, Sensitivity, forced},
};

/// A part of a model.
#[derive(Clone, Debug)]
pub struct Part {
    name: String,
    policy: Policy,
}

/// Each block by itself; what is in none, the embedding and the head, is left out.
pub fn blocks(specs: &[LinearSpec], policy: &Policy) -> Vec<Part> {
    let blocks: BTreeSet<usize> = specs.iter().filter_map(block).collect();
    let part = |i: usize| Part::new(&format!("block {i}"), specs.iter().filter(|spec| block(spec) == Some(i)), policy);
    blocks.into_iter().map(part).collect()
}

/// Each role of linears by itself, in all blocks.
pub fn roles(specs: &[LinearSpec], policy: &Policy) -> Vec<Part> {
    let kinds: BTreeSet<LinearKind> = specs.iter().map(|spec| spec.kind).collect();
    let part = |kind: LinearKind| Part::new(kind.name(), specs.iter().filter(|spec| spec.kind == kind), policy);
    kinds.into_iter().map(part).collect()
}

/// What the source report meant to encode, and with it what it meant to leave plain.
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

/// The block a linear is in.
pub(crate) fn block(spec: &LinearSpec) -> Option<usize> {
    spec.module.strip_prefix("model.layers.")?.split('.').next()?.parse().ok()
}

impl Part {
    /// These linears, encoded as `policy` does by default.
    fn new<'a>(name: &str, specs: impl Iterator<Item = &'a LinearSpec>, policy: &Policy) -> Self {
        // No targets: the exceptions name all that is encoded.
        let nothing = Targets::Kinds(BTreeSet::new());
        let recipe = Recipe { importance: None, ..policy.recipe.clone() };
        let overrides = specs.map(|spec| Override::of(&spec.module, Some(recipe.scheme))).collect();
        let policy = Policy { overrides, importance: policy.importance.clone(), ..Policy::new(nothing, recipe) };
        Self { name: name.to_owned(), policy }
    }

    /// What to call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Encodes the part, predicts, and puts its weights back.
    ///
    /// # Errors
    /// When the part cannot be encoded, or the model fails.
    pub fn measure(&self, comparison: &Comparison<'_>, model: &mut dyn EvalModel) -> Result<Sensitivity, Error> {
        let encoded = linears(model.config()).into_iter().filter(|spec| self.policy.recipe(spec).is_some());
        let weights = encoded.map(|spec| (spec.shape[0] * spec.shape[1]) as u64).sum();
        let Forced { same_top_rate, mean_kl, .. } = predict(comparison, model, &self.policy, &self.name)?;
        let (scheme, part) = (self.policy.recipe.scheme.to_string(), self.name.clone());
        Ok(Sensitivity { scheme, part, weights, same_top_rate, mean_kl })
    }
}

/// What a model predicts of all passages while its linears are encoded by `policy`.
pub(crate) fn predict(
    comparison: &Comparison<'_>,
    model: &mut dyn EvalModel,
    policy: &Policy,
    name: &str,
) -> Result<Forced, Error> {
    model.apply(policy).map_err(Error::Model)?;
    let positions = comparison.positions(model, name, Scoring::Batched);
    model.restore();
    forced(&positions?).ok_or_else(|| Error::Settings("expected something to predict, found nothing".to_owned()))
}
