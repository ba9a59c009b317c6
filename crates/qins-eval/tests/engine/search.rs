//! Mixed-precision search: a mixture that reaches its goal, with fewer bits than the finest scheme.

use qins_eval::{Error, Search};
use qins_model::{LinearSpec, ModelConfig, ModelSource, OutputGoal, Policy, Targets, linears};
use qins_quant::{
    Scheme,
    convert::Part,
    mixture::{Matrix, Mixture, measure},
};

use super::{
    PROMPTS,
    toy::{Fault, Loader, random_source},
};

fn search(source: &ModelSource, goal: OutputGoal) -> Result<Mixture, Error> {
    let config = ModelConfig::of(&source.checkpoint)?;
    let policy = Policy::new(Targets::All, Scheme::Q8g);
    let mut specs: Vec<LinearSpec> = linears(&config);
    specs.retain(|spec| policy.targets.contains(spec.kind));
    let matrix = |spec: &LinearSpec| -> Matrix {
        let (tensor, _, rows) = spec.place(&source.checkpoint);
        let part = Part { module: spec.module.clone(), rows, recipe: None };
        measure(&source.checkpoint, &tensor, &part, &policy.recipe).unwrap()
    };
    let matrices: Vec<Matrix> = specs.iter().map(matrix).collect();
    let (loader, own_prompts) = (Loader::new(Fault::None), Some(("toy prompts", PROMPTS)));
    Search { source, loader: &loader, own_prompts, progress: &() }.run(goal, &policy, &specs, &matrices)
}

#[test]
fn looser_goals_need_fewer_bits() {
    let source = random_source(1);
    let bits = |kl| search(&source, OutputGoal::Kl(kl)).unwrap().bits;
    let bits = [3e-3, 3e-2, 0.3].map(bits);
    assert!(bits[0] > bits[1] && bits[1] > bits[2], "{bits:?}");
    let agreement = search(&source, OutputGoal::Match(0.5)).unwrap();
    assert_eq!(agreement.schemes.len(), 14);
}

#[test]
fn unreachable_goal_is_an_error_that_names_the_nearest_mixture() {
    let error = search(&random_source(1), OutputGoal::Kl(1e-12)).unwrap_err();
    assert!(matches!(&error, Error::NoMixture { nearest } if nearest.contains(" bits give ")), "{error}");
}
