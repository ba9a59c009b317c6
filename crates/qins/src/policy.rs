//! From options to a policy: which scheme each linear is stored in, with measurements where the options need them.

use std::{error::Error, io::Write, time::Instant};

use qins_model::{LinearSpec, ModelConfig, ModelSource, Override, Policy, check_plain, linears};
use qins_quant::{
    EncodedTensor, FloatDtype, Recipe, Scheme,
    convert::Part,
    mixture::{Fits, Goal, Linear, Mixture, SCHEMES},
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
    let config = ModelConfig::of(&source.checkpoint)?;
    check_plain(&source.checkpoint, &config)?;
    let mut policy = Policy { overrides: args.overrides.clone(), ..Policy::new(args.targets(), recipe) };
    policy.check(&config)?;
    check_recipes(&policy, &config, source)?;
    let file = args.calibrate.as_deref();
    if policy.uses_feedback() {
        let is_asked_for = args.asks_for_calibration();
        let can_read = source.checkpoint.files().contains("tokenizer.json");
        if is_asked_for || (by_default == ByDefault::Calibrated && Engine::RUNS_MODELS && can_read) {
            policy.calibration = Some(engine.calibration(file, source)?.into());
        }
    } else if let Some(file) = file {
        policy.importance = engine.importance(Some(file), source)?;
    }
    if let Some(target) = args.target {
        let specs = undecided(&policy, &config)?;
        let found = choose(target, &specs, &policy, &config, source, engine)?;
        let chosen = specs.iter().zip(found.schemes).map(|(spec, scheme)| Override::of(&spec.module, Some(scheme)));
        policy.overrides.splice(..0, chosen);
        policy.goal = target.is_measured(policy.calibration.is_some()).then(|| target.to_string());
    }
    Ok(policy)
}

/// Whether these options, without a calibration by default, have schemes chosen by what the model writes after prompts.
#[cfg(feature = "burn")]
pub(crate) fn is_measured(args: &EncodeArgs, recipe: &Recipe) -> bool {
    let policy = Policy { overrides: args.overrides.clone(), ..Policy::new(args.targets(), recipe.clone()) };
    let is_calibrated = policy.uses_feedback() && args.asks_for_calibration();
    args.target.is_some_and(|target| target.is_measured(is_calibrated))
}

/// Checks each linear's options before a calibration, which takes long.
fn check_recipes(policy: &Policy, config: &ModelConfig, source: &ModelSource) -> Result<(), Box<dyn Error>> {
    for spec in linears(config) {
        let Some(recipe) = policy.recipe(&spec) else { continue };
        if let Err(fault) = EncodedTensor::encode_as(&[], [0, spec.shape[1]], FloatDtype::F32, &recipe) {
            let (tensor, ..) = spec.place(&source.checkpoint);
            return Err(qins_quant::Error::tensor(source.checkpoint.path_of(&tensor), tensor, fault).into());
        }
    }
    Ok(())
}

/// Notes what a conversion was calibrated on, or why it was not.
pub(crate) fn note_calibration(args: &EncodeArgs, policy: &Policy, source: &ModelSource) {
    if !policy.uses_feedback() {
        return;
    }
    let text = match (&policy.calibration, &args.calibrate) {
        (Some(texts), Some(file)) => {
            format!("error feedback is calibrated on {}, {} tokens", file.display(), texts.tokens())
        }
        (Some(texts), None) => format!(
            "error feedback is calibrated on a standard text and what the model writes, {} tokens (--no-calibrate: without)",
            texts.tokens()
        ),
        (None, _) if !Engine::RUNS_MODELS => {
            "encoded without error feedback: this build cannot run models (`--features flex` can)".to_owned()
        }
        (None, _) => {
            format!("encoded without error feedback: {} has no tokenizer to read a calibration with", source.name)
        }
    };
    note(&text);
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

/// The mixture for a goal, from fits made as a conversion makes them.
fn choose(
    target: Target,
    specs: &[LinearSpec],
    policy: &Policy,
    config: &ModelConfig,
    source: &ModelSource,
    engine: &Engine<'_>,
) -> Result<Mixture, Box<dyn Error>> {
    // An output depends on all linears, one of weights on those that are chosen for.
    let mut fixed = linears(config);
    fixed.retain(|spec| matches!(target, Target::Output(_)) && policy.recipe(spec).is_some() && !specs.contains(spec));
    let linear = |spec: &LinearSpec, schemes: Option<&[Scheme]>| {
        let (tensor, _, rows) = spec.place(&source.checkpoint);
        let recipe = policy.recipe(spec).unwrap_or_else(|| policy.recipe.clone());
        let schemes = schemes.map_or(vec![recipe.scheme], <[_]>::to_vec);
        Linear { tensor, part: Part { module: spec.module.clone(), rows, recipe: Some(recipe) }, schemes }
    };
    let chosen = specs.iter().map(|spec| linear(spec, Some(&SCHEMES)));
    let all: Vec<Linear> = chosen.chain(fixed.iter().map(|spec| linear(spec, None))).collect();
    // In the model; and on texts of the calibration that the fits have not seen.
    let is_measured = target.is_measured(policy.calibration.is_some());
    let is_confirmed = matches!(target, Target::Weights(Goal::Bits(_)));
    let (mut fitted, mut held_out) = (policy.clone(), Vec::new());
    if let (Some(texts), true) = (&policy.calibration, is_confirmed) {
        let (rest, every_fourth) = texts.hold_out();
        (fitted.calibration, held_out) = (Some(rest.into()), every_fourth);
    }
    let (start, bar) = (Instant::now(), progress(all.len() as u64, "fitting each scheme".to_owned()));
    let fits = engine.calibrated(source, &fitted, |calibration| {
        Ok(Fits::of(&source.checkpoint, &all, &|_| is_measured, calibration, &|| bar.inc(1))?)
    })?;
    bar.finish_and_clear();
    let seconds = start.elapsed().as_secs_f64();
    let found = engine.search(target, [specs, &fixed], &fits, &held_out, policy, source)?;
    print(&found, policy)?;
    if policy.calibration.is_some() {
        let by_output = if is_measured { ", and what they change on calibration prompts" } else { "" };
        note(&format!(
            "the mixture is chosen by {} fits with error feedback, made in {seconds:.0} s{by_output}",
            fits.count()
        ));
    }
    Ok(found)
}

fn print(found: &Mixture, policy: &Policy) -> std::io::Result<()> {
    let decibels = -10.0 * found.nmse.log10();
    let of = if policy.calibration.is_some() { " of outputs" } else { "" };
    writeln!(std::io::stderr(), "mixture: {} ({:.3} bits, {decibels:.1} dB{of})", found.counts(), found.bits)
}
