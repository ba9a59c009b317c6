//! Mixed-precision search: the mixture of schemes with the fewest bits that reaches a divergence or agreement goal.
//!
//! The model: the KL divergence that a linear causes is proportional to its weight error, and the divergences of linears add up,
//! which holds while they are small. Each block and each role of linears is encoded by itself, and the measured divergences are
//! distributed over the linears so that the sums by block and by role both agree (iterative proportional fitting). With these
//! costs the best mixture for any total is found as for a weight error; the total is then adjusted until the measured metric
//! reaches the goal.

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
    report::Thresholds,
    sensitivity::{block, blocks, predict, roles},
};

/// The scheme in which parts are measured: coarse enough for its divergence to stand out from rounding.
const PROBE: Scheme = Scheme::Q4;
/// Maximum number of mixtures that are measured.
const TRIALS: usize = 8;

/// A search for the smallest mixture of schemes.
pub struct Search<'a> {
    /// The model, with plain weights.
    pub source: &'a ModelSource,
    /// Loads the model.
    pub loader: &'a dyn EvalLoader,
    /// The model's own prompts, if any, in place of the standard ones: a name, and the content of a prompts file. Either way
    /// the calibration split is used.
    pub own_prompts: Option<(&'a str, &'a str)>,
    /// Receives progress and notes.
    pub progress: &'a dyn Progress,
}

impl Search<'_> {
    /// Chooses a scheme for each linear of `specs`; `matrices` has its size, bits and error in each scheme, in the same order. A
    /// goal is reached when the end of the metric's 95 % interval that is worse reaches it.
    ///
    /// # Errors
    /// [`Error::NoMixture`] when no mixture reaches the goal; [`Error::Model`] when the model cannot be loaded or fails.
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
            prompt_stride: Some(2),
            max_new_tokens: 48,
            temperature: None,
            windows: (0, 0),
            contexts: Vec::new(),
            thresholds: Thresholds::ByBits,
            golden: false,
        };
        let inputs = EvalInputs { own_prompts, split: Split::Calibration, ..EvalInputs::default() };
        let stops = stop_ids(source.checkpoint.files(), &config)?;
        let eval_set = EvalSet::new(&plan, inputs, &reader, &config, stops, progress)?;
        let mut model = loader.load(source, None).map_err(Error::Model)?;
        let baseline = Baseline::make(&*model, &eval_set, BTreeMap::new(), None, progress)?;
        let comparison = Comparison { eval_set: &eval_set, baseline: &baseline, source, progress };

        let probe = Policy { recipe: Recipe { scheme: PROBE, ..policy.recipe.clone() }, ..policy.clone() };
        let parts = [blocks(specs, &probe), roles(specs, &probe)].concat();
        let stage = Stage::begin(progress, &format!("each part in {PROBE}"), parts.len());
        let mut found = Vec::new();
        for part in &parts {
            let kl = part.measure(&comparison, &mut *model)?.mean_kl.map_or(0.0, |kl| kl.value);
            found.push((part.name().to_owned(), kl));
            stage.step()?;
        }
        drop(stage);
        let costs = distribute(specs, matrices, &found.into_iter().collect());
        let costed = with_costs(matrices, &costs);

        let finest = mixture::choose(&costed, Goal::Bits(f64::MAX)).map_err(Error::Settings)?;
        // Bounds of ln(total), not yet known.
        let (mut low, mut high) = (f64::MIN_POSITIVE.ln(), f64::MAX.ln());
        let mut total = match goal {
            OutputGoal::Kl(kl) => kl,
            OutputGoal::Match(share) => (1.0 - share).powi(2),
        };
        let mut best: Option<Mixture> = None;
        let mut nearest = String::new();
        for _ in 0..TRIALS {
            // Where even the finest schemes are predicted to miss the total, they are measured all the same.
            let mixture =
                mixture::choose(&costed, Goal::Sqnr(-10.0 * total.log10())).unwrap_or_else(|_| finest.clone());
            let chosen =
                specs.iter().zip(&mixture.schemes).map(|(spec, scheme)| Override::of(&spec.module, Some(*scheme)));
            let trial =
                Policy { overrides: chosen.chain(policy.overrides.iter().cloned()).collect(), ..policy.clone() };
            let teacher_forced = predict(&comparison, &mut *model, &trial, &format!("{:.2} bits", mixture.bits))?;
            let (reached, metric) = match goal {
                OutputGoal::Kl(kl) => {
                    (teacher_forced.mean_kl.is_some_and(|e| e.high <= kl), shown(teacher_forced.mean_kl))
                }
                OutputGoal::Match(share) => (
                    teacher_forced.top1_agreement.is_some_and(|e| e.low >= share),
                    shown(teacher_forced.top1_agreement),
                ),
            };
            nearest = format!("{:.3} bits give {metric}", mixture.bits);
            if reached {
                low = total.ln();
                if best.as_ref().is_none_or(|best| mixture.bits < best.bits) {
                    best = Some(mixture);
                }
            } else if mixture.schemes == finest.schemes {
                break;
            } else {
                high = total.ln();
            }
            // Towards the goal until it is bracketed, then bisection.
            total = match (goal, low > f64::MIN_POSITIVE.ln(), high < f64::MAX.ln()) {
                (_, true, true) => f64::midpoint(low, high).exp(),
                (OutputGoal::Kl(kl), ..) => {
                    total * (kl / teacher_forced.mean_kl.map_or(kl, |e| e.high).max(f64::MIN_POSITIVE)).clamp(0.1, 10.0)
                }
                (_, true, _) => total * 4.0,
                _ => total / 4.0,
            };
        }
        let best = best.ok_or(Error::NoMixture { nearest })?;
        // The choice was made by costs; what is reported is the weight error.
        let nmse = mean_nmse(matrices, &best.schemes);
        Ok(Mixture { nmse, ..best })
    }
}

fn shown(estimate: Option<Estimate>) -> String {
    estimate.map_or_else(String::new, |e| format!("{:.3e} [{:.3e}, {:.3e}]", e.value, e.low, e.high))
}

/// Distributes the divergence measured by block and by role over the linears, by iterative proportional fitting. Linears in no
/// block (embedding, head) have a role of their own.
fn distribute(specs: &[LinearSpec], matrices: &[Matrix], found: &BTreeMap<String, f64>) -> Vec<f64> {
    let cost = |name: &str| found.get(name).copied().unwrap_or(0.0);
    let block_name = |spec: &LinearSpec| block(spec).map(|block| format!("block {block}"));
    // The initial cost of a linear is its squared error.
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

/// The matrices with the error of each choice replaced by its cost.
fn with_costs(matrices: &[Matrix], costs: &[f64]) -> Vec<Matrix> {
    let total: f64 = matrices.iter().map(|m| m.weights as f64).sum();
    let costed = |(matrix, cost): (&Matrix, &f64)| {
        let share = matrix.weights as f64 / total;
        let of_probe = probed(matrix).nmse.max(f64::MIN_POSITIVE);
        let choice = |choice: &Choice| Choice { nmse: cost * choice.nmse / of_probe / share, ..*choice };
        Matrix { weights: matrix.weights, choices: matrix.choices.iter().map(choice).collect() }
    };
    matrices.iter().zip(costs).map(costed).collect()
}

/// The mean NMSE of the weights in these schemes, weighted by size.
fn mean_nmse(matrices: &[Matrix], schemes: &[Scheme]) -> f64 {
    let total: f64 = matrices.iter().map(|m| m.weights as f64).sum();
    let error = |(matrix, scheme): (&Matrix, &Scheme)| {
        let choice = matrix.choices.iter().find(|choice| choice.scheme == *scheme);
        choice.map_or(0.0, |choice| choice.nmse * matrix.weights as f64)
    };
    matrices.iter().zip(schemes).map(error).sum::<f64>() / total
}
