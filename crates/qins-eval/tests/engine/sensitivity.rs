//! Sensitivity: one part is encoded at a time, and the weights are restored.

use qins_eval::{
    Error, EvalModel,
    report::Sensitivity,
    sensitivity::{blocks, roles},
};
use qins_model::{ModelSource, Policy, Targets, linears};
use qins_quant::Scheme;

use super::{
    Run,
    toy::{Bigram, Fault, random_source},
};

/// The weights of a model, and the sensitivities measured on it.
fn after_sensitivity(source: &ModelSource, fault: Fault) -> (Vec<(String, Vec<f32>)>, Vec<Sensitivity>) {
    let mut weights = Vec::new();
    let report = Run::faulty(source, fault).measure(
        Vec::new(),
        |comparison, model, measured| {
            let specs = linears(model.config());
            let policy = Policy::new(Targets::Full, Scheme::Q3);
            let parts = [blocks(&specs, &policy), roles(&specs, &policy)].concat();
            for part in &parts {
                measured.push(part.measure(comparison, model)?);
            }
            weights = weights_of(model);
            Ok(())
        },
        Vec::new(),
    );
    (weights, report.unwrap().sensitivity)
}

fn weights_of(model: &mut dyn EvalModel) -> Vec<(String, Vec<f32>)> {
    let mut weights = Vec::new();
    model.visit_weights(&mut |module, values| weights.push((module.to_owned(), values))).unwrap();
    weights
}

#[test]
fn sensitivity_encodes_one_part_and_restores_the_weights() {
    let source = random_source(1);
    let loaded = weights_of(&mut Bigram::new(&source, None, Fault::None).unwrap());
    let (weights, parts) = after_sensitivity(&source, Fault::None);
    assert!(weights == loaded);
    assert!(after_sensitivity(&source, Fault::RestoreDoesNothing).0 != loaded);
    let names: Vec<&str> = parts.iter().map(|part| part.part.as_str()).collect();
    assert_eq!(names[..3], ["block 0", "block 1", "q_proj"]);
    assert!(parts.iter().all(|part| part.mean_kl.unwrap().value > 0.0));
    // Seven linears of 16 × 16 in a block, one role in two blocks.
    assert_eq!((parts[0].weights, parts[2].weights), (7 * 256, 2 * 256));
}

/// A baseline scores five passages, so that the eighth call of `score` is amid the first part.
#[test]
fn sensitivity_restores_the_weights_when_scoring_fails() {
    let source = random_source(1);
    let loaded = weights_of(&mut Bigram::new(&source, None, Fault::None).unwrap());
    let mut weights = Vec::new();
    let result = Run::faulty(&source, Fault::ScoreFails(7)).measure(
        Vec::new(),
        |comparison, model, _| {
            let part = blocks(&linears(model.config()), &Policy::new(Targets::Full, Scheme::Q3)).remove(0);
            let measured = part.measure(comparison, model);
            weights = weights_of(model);
            // Encoded weights differ, so that the comparison below can fail.
            model.apply(&Policy::new(Targets::All, Scheme::Q3)).unwrap();
            assert!(weights_of(model) != loaded);
            measured.map(drop)
        },
        Vec::new(),
    );
    assert!(matches!(result, Err(Error::Model(_))) && weights == loaded);
}
