//! From options to how each linear shall rest; what has to be measured first is measured here.

use std::{collections::BTreeMap, error::Error, fs, io::Write, path::Path};

use qins_burn::{
    Device, Importance, LinearSpec, Override, Policy, Recipe, calibrate, check_plain, linears, phi3::ModelConfig,
};
use qins_quant::{
    convert::Part,
    mixture::{self, Matrix, Mixture},
};

use crate::{
    args::{EncodeArgs, Target},
    model::{Source, progress, stage},
    prompts::Reader,
    search::search,
};

/// Tokens of a calibration text that are read at a time.
const PIECE: usize = 512;

/// How the linears of `source` rest by these options, with `recipe` where nothing says otherwise. What can be refused
/// without reading weights is refused first.
pub(crate) fn policy(
    args: &EncodeArgs,
    recipe: Recipe,
    source: &Source,
    device: &Device,
) -> Result<Policy, Box<dyn Error>> {
    let config = ModelConfig::parse(source.checkpoint.config(), &source.checkpoint.config_path())?;
    check_plain(&source.checkpoint, &config)?;
    let mut policy = Policy { overrides: args.overrides.clone(), ..Policy::new(args.targets.clone(), recipe) };
    policy.check(&config)?;
    if let Some(file) = &args.calibrate {
        policy.importance = importance(file, source, device)?;
    }
    if let Some(target) = args.target {
        let specs = to_choose(&policy, &config)?;
        let matrices = measure(&policy, &specs, source)?;
        let found = match target {
            Target::Weights(goal) => mixture::choose(&matrices, goal)?,
            Target::Words(bar) => search(bar, &policy, &specs, &matrices, source, device)?,
        };
        tell(&found)?;
        let chosen = specs.iter().zip(found.schemes).map(|(spec, scheme)| Override::of(&spec.module, Some(scheme)));
        policy.overrides.splice(..0, chosen);
    }
    Ok(policy)
}

/// Reads a text with the plain model.
fn importance(file: &Path, source: &Source, device: &Device) -> Result<Importance, Box<dyn Error>> {
    let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let ids = Reader::open(source.files())?.encode(&text).map_err(|e| format!("{}: {e}", file.display()))?;
    let mut model = source.load(None, device)?.model;
    let piece = PIECE.min(model.config().max_position_embeddings);
    let texts: Vec<Vec<u32>> = ids.chunks(piece).map(<[u32]>::to_vec).collect();
    let bar = stage(texts.len() as u64, "calibrating".to_owned());
    let importance = calibrate(&mut model, &texts, |done, _| bar.set_position(done as u64))
        .map_err(|e| format!("{}: {e}", file.display()))?;
    bar.finish_and_clear();
    Ok(importance.into_iter().map(|(module, means)| (module, means.into())).collect())
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
fn measure(policy: &Policy, specs: &[LinearSpec], source: &Source) -> Result<Vec<Matrix>, Box<dyn Error>> {
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
