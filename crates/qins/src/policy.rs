//! From options to how each linear shall rest; what has to be measured first is measured here.

use std::{collections::BTreeMap, error::Error, io::Write};

use qins_model::{LinearSpec, ModelConfig, ModelSource, Override, Policy, check_plain, linears};
use qins_quant::{
    Recipe,
    convert::Part,
    mixture::{self, Matrix, Mixture},
};

use crate::{
    args::{EncodeArgs, Target},
    progress::progress,
};

#[cfg(feature = "burn")]
mod engine;
#[cfg(not(feature = "burn"))]
#[path = "policy/no_engine.rs"]
mod engine;

pub(crate) use engine::Engine;

/// How the linears of `source` are encoded by these options, with `recipe` where nothing says otherwise. What can be refused
/// without reading weights is refused first.
pub(crate) fn policy(
    args: &EncodeArgs,
    recipe: Recipe,
    source: &ModelSource,
    engine: &Engine<'_>,
) -> Result<Policy, Box<dyn Error>> {
    let config = ModelConfig::of(&source.checkpoint)?;
    check_plain(&source.checkpoint, &config)?;
    let mut policy = Policy { overrides: args.overrides.clone(), ..Policy::new(args.targets.clone(), recipe) };
    policy.check(&config)?;
    if let Some(file) = &args.calibrate {
        policy.importance = engine.importance(file, source)?;
    }
    if let Some(target) = args.target {
        let specs = to_choose(&policy, &config)?;
        let matrices = measure(&policy, &specs, source)?;
        let found = match target {
            Target::Weights(goal) => mixture::choose(&matrices, goal)?,
            Target::Words(goal) => engine.search(goal, &policy, &specs, &matrices, source)?,
        };
        tell(&found)?;
        let chosen = specs.iter().zip(found.schemes).map(|(spec, scheme)| Override::of(&spec.module, Some(scheme)));
        policy.overrides.splice(..0, chosen);
    }
    Ok(policy)
}

/// The linears that have no scheme yet.
fn to_choose(policy: &Policy, config: &ModelConfig) -> Result<Vec<LinearSpec>, String> {
    let mut specs = linears(config);
    specs.retain(|spec| policy.targets.contains(spec.kind) && policy.exception(spec).is_none());
    if specs.is_empty() {
        return Err("expected linears for --target to choose schemes for, found an --override for each".into());
    }
    Ok(specs)
}

/// What each scheme would make of each linear.
fn measure(policy: &Policy, specs: &[LinearSpec], source: &ModelSource) -> Result<Vec<Matrix>, Box<dyn Error>> {
    let checkpoint = &source.checkpoint;
    let bar = progress(specs.len() as u64, "measuring".to_owned());
    let mut matrices: Vec<Matrix> = Vec::new();
    for spec in specs {
        let (tensor, _, rows) = spec.place(checkpoint);
        let part = Part { module: spec.module.clone(), rows, recipe: None };
        let recipe = policy.recipe(spec).unwrap_or_else(|| policy.recipe.clone());
        matrices.push(mixture::measure(checkpoint, &tensor, &part, &recipe)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(matrices)
}

fn tell(found: &Mixture) -> std::io::Result<()> {
    let mut counts = BTreeMap::new();
    found.schemes.iter().for_each(|scheme| *counts.entry(*scheme).or_insert(0) += 1);
    let counts: Vec<String> = counts.into_iter().map(|(scheme, n)| format!("{n} × {scheme}")).collect();
    let decibels = -10.0 * found.nmse.log10();
    writeln!(std::io::stderr(), "mixture: {} ({:.3} bits, {decibels:.1} dB)", counts.join(", "), found.bits)
}
