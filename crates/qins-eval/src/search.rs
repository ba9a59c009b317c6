//! The smallest mixture of schemes with which a model still says what it said.
//!
//! What an encoded linear costs is taken to grow with its weights' error, and the costs of linears to add up, which holds
//! while they are small. So each block and each role of linears is encoded by itself, and what that costs is shared out among
//! the linears such that both sums come out (proportional fitting). From there the best mixture for any total is found as
//! that for an error is; the total is then moved until the divergence that is measured meets the bar.

use std::collections::BTreeMap;

use qins_model::{LinearSpec, ModelConfig, ModelSource, OutputGoal, Override, Policy, TextReader, stop_ids};
use qins_quant::{
    Recipe, Scheme,
    mixture::{self, Choice, Goal, Matrix, Mixture},
};

use crate::{
    Error, EvalInputs, EvalSet, Progress, Split,
    baseline::Baseline,
    comparison::Comparison,
    estimate::Estimate,
    model::EvalLoader,
    preset::Plan,
    progress::Stage,
    report::Judge,
    sensitivity::{block, blocks, predict, roles},
};

/// The scheme whose cost is measured part by part: coarse enough to stand out from rounding.
const PROBE: Scheme = Scheme::Q4;
/// Mixtures that are tried.
const TRIALS: usize = 8;

/// What a search works on.
pub struct Search<'a> {
    /// The plain model.
    pub source: &'a ModelSource,
    /// Loads it.
    pub loader: &'a dyn EvalLoader,
    /// The model's own prompts, if it has any: of them or of the standard ones every other one is used.
    pub own_prompts: Option<(&'a str, &'a str)>,
    /// Is told how far it is.
    pub progress: &'a dyn Progress,
}

impl Search<'_> {
    /// Chooses a scheme for each of `specs`, of which `matrices` says what each would make.
    ///
    /// # Errors
    /// When no mixture meets the bar.
    pub fn run(
        &self,
        goal: OutputGoal,
        policy: &Policy,
        specs: &[LinearSpec],
        matrices: &[Matrix],
    ) -> Result<Mixture, Error> {
        let Self { source, loader, own_prompts, progress } = *self;
        let reader = TextReader::open(source.checkpoint.files())?;
        let config = ModelConfig::of(&source.checkpoint)?;
        let plan = Plan {
            prompts_step: Some(2),
            max_new_tokens: 48,
            temperature: None,
            windows: (0, 0),
            contexts: Vec::new(),
            judge: Judge::Bits,
            golden: false,
        };
        let inputs = EvalInputs { own_prompts, split: Split::Calibration, ..EvalInputs::default() };
        let stops = stop_ids(source.checkpoint.files(), &config)?;
        let eval_set = EvalSet::new(&plan, inputs, &reader, &config, stops, progress)?;
        let mut model = loader.load(source, None).map_err(Error::Model)?;
        let scratch = tempfile::tempdir().map_err(|source| Error::Io { path: std::env::temp_dir(), source })?;
        let file = scratch.path().join("calibration.safetensors");
        let baseline = Baseline::make(&*model, &eval_set, BTreeMap::new(), &file, progress)?;
        let comparison = Comparison { eval_set: &eval_set, baseline: &baseline, source, progress };

        let probe = Policy { recipe: Recipe { scheme: PROBE, ..policy.recipe.clone() }, ..policy.clone() };
        let parts = [blocks(specs, &probe), roles(specs, &probe)].concat();
        let stage = Stage::begin(progress, &format!("each part in {PROBE}"), parts.len());
        let mut found = Vec::new();
        for part in &parts {
            let kl = part.measure(&comparison, &mut *model)?.mean_kl.map_or(0.0, |kl| kl.value);
            found.push((part.name().to_owned(), kl));
            stage.step();
        }
        drop(stage);
        let costs = shared_out(specs, matrices, &found.into_iter().collect());
        let costly = priced(matrices, &costs);

        let finest = mixture::choose(&costly, Goal::Bits(f64::MAX)).map_err(Error::Settings)?;
        // By how much the total that is asked for is off from the one that is measured is not known before.
        let (mut low, mut high) = (f64::MIN_POSITIVE.ln(), f64::MAX.ln());
        let mut total = match goal {
            OutputGoal::Kl(kl) => kl,
            OutputGoal::Match(share) => (1.0 - share).powi(2),
        };
        let mut best: Option<Mixture> = None;
        let mut nearest = String::new();
        for _ in 0..TRIALS {
            // Where even the finest schemes are predicted to cost more, they may do so all the same.
            let mixture =
                mixture::choose(&costly, Goal::Sqnr(-10.0 * total.log10())).unwrap_or_else(|_| finest.clone());
            let chosen =
                specs.iter().zip(&mixture.schemes).map(|(spec, scheme)| Override::of(&spec.module, Some(*scheme)));
            let trial =
                Policy { overrides: chosen.chain(policy.overrides.iter().cloned()).collect(), ..policy.clone() };
            let forced = predict(&comparison, &mut *model, &trial, &format!("{:.2} bits", mixture.bits))?;
            let (met, written) = match goal {
                OutputGoal::Kl(kl) => (forced.mean_kl.is_some_and(|e| e.high <= kl), written(forced.mean_kl)),
                OutputGoal::Match(share) => {
                    (forced.same_top_rate.is_some_and(|e| e.low >= share), written(forced.same_top_rate))
                }
            };
            nearest = format!("{:.3} bits give {written}", mixture.bits);
            if met {
                low = total.ln();
                if best.as_ref().is_none_or(|best| mixture.bits < best.bits) {
                    best = Some(mixture);
                }
            } else if mixture.schemes == finest.schemes {
                break;
            } else {
                high = total.ln();
            }
            // Towards the bar while it is on one side, then halving what lies between.
            total = match (goal, low > f64::MIN_POSITIVE.ln(), high < f64::MAX.ln()) {
                (_, true, true) => f64::midpoint(low, high).exp(),
                (OutputGoal::Kl(kl), ..) => {
                    total * (kl / forced.mean_kl.map_or(kl, |e| e.high).max(f64::MIN_POSITIVE)).clamp(0.1, 10.0)
                }
                (_, true, _) => total * 4.0,
                _ => total / 4.0,
            };
        }
        let best = best.ok_or(Error::NoMixture { nearest })?;
        // What the choice was made by is no error of weights; what is told of it is.
        let nmse = weighed(matrices, &best.schemes);
        Ok(Mixture { nmse, ..best })
    }
}

fn written(estimate: Option<Estimate>) -> String {
    estimate.map_or_else(String::new, |e| format!("{:.3e} [{:.3e}, {:.3e}]", e.value, e.low, e.high))
}

/// What each linear costs in the scheme of the probe, of what its block and its role cost: both sums are kept as far as they
/// agree. Linears in no block have a role of their own.
fn shared_out(specs: &[LinearSpec], matrices: &[Matrix], found: &BTreeMap<String, f64>) -> Vec<f64> {
    let cost = |name: &str| found.get(name).copied().unwrap_or(0.0);
    let block_name = |spec: &LinearSpec| block(spec).map(|block| format!("block {block}"));
    // Where nothing is known, a linear costs what its error and size suggest.
    let mut costs: Vec<f64> = matrices.iter().map(|m| probed(m).nmse * m.weights as f64).collect();
    for _ in 0..100 {
        let mut sums: BTreeMap<String, f64> = BTreeMap::new();
        for (spec, cost) in specs.iter().zip(&costs) {
            *sums.entry(spec.kind.name().to_owned()).or_default() += cost;
        }
        for (spec, share) in specs.iter().zip(&mut costs) {
            let name = spec.kind.name();
            *share *= cost(name) / sums[name].max(f64::MIN_POSITIVE);
        }
        let mut sums: BTreeMap<String, f64> = BTreeMap::new();
        for (spec, cost) in specs.iter().zip(&costs) {
            if let Some(name) = block_name(spec) {
                *sums.entry(name).or_default() += cost;
            }
        }
        for (spec, share) in specs.iter().zip(&mut costs) {
            if let Some(name) = block_name(spec) {
                *share *= cost(&name) / sums[&name].max(f64::MIN_POSITIVE);
            }
        }
    }
    costs
}

fn probed(matrix: &Matrix) -> Choice {
    let probe = matrix.choices.iter().find(|choice| choice.scheme == PROBE);
    *probe.unwrap_or(&Choice { scheme: PROBE, bits: 0.0, nmse: 0.0 })
}

/// The matrices with what each choice costs of the total in the place of its error.
fn priced(matrices: &[Matrix], costs: &[f64]) -> Vec<Matrix> {
    let total: f64 = matrices.iter().map(|m| m.weights as f64).sum();
    let price = |(matrix, cost): (&Matrix, &f64)| {
        let share = matrix.weights as f64 / total;
        let of_probe = probed(matrix).nmse.max(f64::MIN_POSITIVE);
        let choice = |choice: &Choice| Choice { nmse: cost * choice.nmse / of_probe / share, ..*choice };
        Matrix { weights: matrix.weights, choices: matrix.choices.iter().map(choice).collect() }
    };
    matrices.iter().zip(costs).map(price).collect()
}

/// The mean error of weights in these schemes.
fn weighed(matrices: &[Matrix], schemes: &[Scheme]) -> f64 {
    let total: f64 = matrices.iter().map(|m| m.weights as f64).sum();
    let error = |(matrix, scheme): (&Matrix, &Scheme)| {
        let choice = matrix.choices.iter().find(|choice| choice.scheme == *scheme);
        choice.map_or(0.0, |choice| choice.nmse * matrix.weights as f64)
    };
    matrices.iter().zip(schemes).map(error).sum::<f64>() / total
}
