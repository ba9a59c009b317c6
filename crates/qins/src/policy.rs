//! From options to a policy: which scheme each linear is stored in, with measurements where the options need them.

use std::{collections::BTreeMap, error::Error, io::Write, path::Path, sync::Arc};

use qins_model::{CalibrationTexts, LinearSpec, ModelConfig, ModelSource, Override, Policy, check_plain, linears};
use qins_quant::{
    Recipe,
    convert::Part,
    mixture::{self, Matrix, Mixture},
};

use crate::{
    args::{EncodeArgs, Target},
    progress::{note, progress},
};

#[cfg(feature = "burn")]
mod engine;
#[cfg(not(feature = "burn"))]
#[path = "policy/no_engine.rs"]
mod engine;

pub(crate) use engine::Engine;

/// Whether schemes that use error feedback are calibrated where no option says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByDefault {
    /// On the standard calibration: a model that is written once.
    Calibrated,
    /// Not: a model that is encoded each time it is loaded, which would take minutes more; or by request.
    Uncalibrated,
}

/// The policy for the linears of `source` by these options, with `recipe` as the default. Options that can be checked without
/// reading weights are checked first.
pub(crate) fn policy(
    args: &EncodeArgs,
    recipe: Recipe,
    source: &ModelSource,
    engine: &Engine<'_>,
    by_default: ByDefault,
) -> Result<Policy, Box<dyn Error>> {
    let by_default = by_default == ByDefault::Calibrated;
    let config = ModelConfig::of(&source.checkpoint)?;
    check_plain(&source.checkpoint, &config)?;
    let mut policy = Policy { overrides: args.overrides.clone(), ..Policy::new(args.targets.clone(), recipe) };
    policy.check(&config)?;
    let file = args.calibrate.as_deref();
    if args.target.is_none() && policy.uses_feedback() {
        if file.is_some() || by_default || args.effort.is_some() {
            policy.calibration = calibration(file, source, engine)?.map(Arc::new);
        }
    } else if let Some(file) = file {
        policy.importance = engine.importance(file, source)?;
    }
    if let Some(target) = args.target {
        let specs = undecided(&policy, &config)?;
        let matrices = measure(&policy, &specs, source)?;
        let found = match target {
            Target::Weights(goal) => mixture::choose(&matrices, goal)?,
            Target::Output(goal) => engine.search(goal, &policy, &specs, &matrices, source)?,
        };
        print(&found)?;
        let chosen = specs.iter().zip(found.schemes).map(|(spec, scheme)| Override::of(&spec.module, Some(scheme)));
        policy.overrides.splice(..0, chosen);
    }
    Ok(policy)
}

/// The texts to calibrate on: of a file, or the standard ones. A model that the standard ones cannot be read with is encoded without.
fn calibration(
    file: Option<&Path>,
    source: &ModelSource,
    engine: &Engine<'_>,
) -> Result<Option<CalibrationTexts>, Box<dyn Error>> {
    if file.is_none() && !source.checkpoint.files().contains("tokenizer.json") {
        note(&format!(
            "{}: encoding without error feedback, as there is no tokenizer to read a calibration with",
            source.name
        ));
        return Ok(None);
    }
    let texts = engine.calibration(file, source)?;
    if let Some(texts) = &texts {
        let what =
            file.map_or("the standard texts and the model's own words".to_owned(), |file| file.display().to_string());
        note(&format!("error feedback is calibrated on {what}, {} tokens", texts.tokens()));
    }
    Ok(texts)
}

/// The linears among the targets without an override.
fn undecided(policy: &Policy, config: &ModelConfig) -> Result<Vec<LinearSpec>, String> {
    let mut specs = linears(config);
    specs.retain(|spec| policy.targets.contains(spec.kind) && policy.exception(spec).is_none());
    if specs.is_empty() {
        return Err("expected linears for --target to choose schemes for, found an --override for each".into());
    }
    Ok(specs)
}

/// Bits and error of each linear in each scheme.
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

fn print(found: &Mixture) -> std::io::Result<()> {
    let mut counts = BTreeMap::new();
    found.schemes.iter().for_each(|scheme| *counts.entry(*scheme).or_insert(0) += 1);
    let counts: Vec<String> = counts.into_iter().map(|(scheme, n)| format!("{n} × {scheme}")).collect();
    let decibels = -10.0 * found.nmse.log10();
    writeln!(std::io::stderr(), "mixture: {} ({:.3} bits, {decibels:.1} dB)", counts.join(", "), found.bits)
}
