//! Mixed-precision search: the mixture of schemes with the fewest bits that reaches a divergence or agreement goal, or with the
//! least divergence in so many bits.
//!
//! The model: the KL divergence that a linear causes is proportional to the error of its fit, and the divergences of linears add up,
//! which holds while they are small. Each block and each role of linears is encoded by itself, and the measured divergences are
//! distributed over the linears so that the sums by block and by role both agree (iterative proportional fitting). With these
//! costs the best mixture for any total is found as for a weight error; the total is then adjusted until the measured metric
//! reaches the goal, on prompts by which nothing was measured before, where there are enough. Parts and mixtures are measured in fits with error feedback, which do not correct for errors of earlier linears as what is written does.

mod candidates;
mod costs;

use std::collections::BTreeMap;

pub use candidates::Candidates;
use costs::{between, distribute, errors, names, reported, uniform, with_costs};
use qins_model::{CalibrationTexts, ModelConfig, ModelSource, OutputGoal, TextReader, stop_ids};
use qins_quant::{
    Scheme,
    mixture::{self, Goal, Matrix, Mixture, PROBE},
};

use crate::{
    Error, EvalInputs, EvalSet, Progress, Split,
    baseline::Baseline,
    comparison::Comparison,
    estimate::Estimate,
    eval_set::Passage,
    model::{EvalLoader, EvalModel},
    preset::Plan,
    progress::Stage,
    prompts::Prompt,
    report::Thresholds,
    sensitivity::{Divergences, compare},
};

/// Maximum number of mixtures that are measured for a goal of the output, by each trust in what was measured.
const TRIALS: usize = 8;

/// How far the measured divergences of blocks and roles are trusted in other mixtures, beside those that trust them: they are of few tokens, and a
/// linear that is chosen for a low one was probably measured too low.
const LESS_TRUST: f64 = 0.5;

/// Tokens of a text that are read before the first one is predicted, and how many are, at most.
const READ: usize = 16;
const PREDICTED: usize = 192;

/// Texts that a choice is confirmed on, at most: their logits lie in a temporary file.
const PASSAGES: usize = 32;

/// A search for the best mixture of schemes.
pub struct Search<'a> {
    /// The model, with plain weights.
    pub source: &'a ModelSource,
    /// Loads the model.
    pub loader: &'a dyn EvalLoader,
    /// The model's own prompts, if any, in place of the standard ones: a name, and the content of a prompts file. Either way
    /// the calibration split is used.
    pub own_prompts: Option<(&'a str, &'a str)>,
    /// Texts that the fits were not calibrated on, to confirm a choice for so many bits, which is made by what the model writes after the prompts.
    /// Of fewer than [`CalibrationTexts::HELD_OUT`] none is used, and the choice is confirmed on prompts.
    pub texts: &'a [Vec<u32>],
    /// Receives progress and notes.
    pub progress: &'a dyn Progress,
}

impl Search<'_> {
    /// Chooses a scheme for each linear: the fewest bits that reach `goal`, which is reached when the end of the metric's 95 % interval
    /// that is worse reaches it. Fits must be kept in all schemes.
    ///
    /// # Errors
    /// [`Error::NoMixture`] when no mixture reaches the goal; [`Error::Model`] when the model cannot be loaded or fails.
    pub fn run(&self, goal: OutputGoal, candidates: Candidates<'_>) -> Result<Mixture, Error> {
        self.with_costs(candidates, true, |mut eval_set, others, mut baseline, model, costed| {
            if !others.is_empty() {
                eval_set.prompts = others;
                baseline = self.baseline(&eval_set, baseline, model)?;
            }
            let comparison = self.comparison(&eval_set, &baseline);
            let mut judge = Judge { goal, candidates, comparison: &comparison, seen: BTreeMap::new() };
            let trusted = costed(1.0);
            let mut best: Option<Mixture> = None;
            let mut nearest = String::new();
            for matrices in [&trusted, &costed(LESS_TRUST)] {
                match self.reach(&mut judge, model, matrices) {
                    Ok(found) if best.as_ref().is_some_and(|best| best.bits <= found.bits) => {}
                    Ok(found) => best = Some(found),
                    Err(Error::NoMixture { nearest: found }) => nearest = found,
                    Err(e) => return Err(e),
                }
            }
            let best = best.ok_or(Error::NoMixture { nearest })?;
            // One scheme for all may do with fewer bits.
            let fewer = uniform(&trusted).filter(|uniform| uniform.bits < best.bits);
            let best = match fewer.max_by(|a, b| a.bits.total_cmp(&b.bits)) {
                Some(uniform) if judge.judge(&uniform, model)?.reached => uniform,
                _ => best,
            };
            Ok(reported(candidates.matrices(), best))
        })
    }

    /// Chooses a scheme for each linear, in at most so many bits per weight: one scheme for all, unless a mixture with the least divergence predicted after
    /// the prompts is known to change less on the texts: its mean divergence is lower, and the 95 % interval of the
    /// geometric mean of their ratios lies below 1. Fits must be kept in all schemes.
    ///
    /// # Errors
    /// [`Error::Settings`] when no mixture has so few bits; [`Error::Model`] when the model cannot be loaded or fails.
    pub fn within(&self, bits: f64, candidates: Candidates<'_>) -> Result<Mixture, Error> {
        // Before the model runs.
        candidates.expect_fits()?;
        mixture::choose(candidates.matrices(), Goal::Bits(bits)).map_err(Error::Settings)?;
        let passages: Vec<Passage> = self.texts.iter().filter_map(|ids| passage(ids)).take(PASSAGES).collect();
        let has_texts = passages.len() >= CalibrationTexts::HELD_OUT;
        self.with_costs(candidates, !has_texts, |mut eval_set, others, mut baseline, model, costed| {
            let measured = costed(1.0);
            let uniform = uniform(&measured).filter(|uniform| uniform.bits <= bits + mixture::SLACK);
            let mut all: Vec<Mixture> = uniform.min_by(|a, b| a.nmse.total_cmp(&b.nmse)).into_iter().collect();
            for matrices in [measured.clone(), costed(LESS_TRUST)] {
                let mixture = mixture::choose(&matrices, Goal::Bits(bits)).map_err(Error::Settings)?;
                if all.iter().all(|other| other.schemes != mixture.schemes) {
                    all.push(mixture);
                }
            }
            if let [mixture] = &all[..] {
                return Ok(reported(candidates.matrices(), mixture.clone()));
            }
            let on = match (has_texts, others.is_empty()) {
                (true, _) => format!("{} texts that the fits have not seen", passages.len()),
                (false, false) => format!("{} prompts by which they were not chosen", others.len()),
                (false, true) => "the prompts by which they were chosen".to_owned(),
            };
            if has_texts || !others.is_empty() {
                eval_set.prompts = others;
                eval_set.windows = if has_texts { passages } else { Vec::new() };
                baseline = self.baseline(&eval_set, baseline, model)?;
            }
            self.progress.note(&format!("mixtures are compared on {on}"));
            let comparison = self.comparison(&eval_set, &baseline);
            let stage = Stage::begin(self.progress, "mixtures", all.len());
            let mut measured: Vec<(Mixture, Divergences)> = Vec::new();
            for mixture in all {
                let found = candidates.measure(&mixture, &comparison, model)?;
                stage.step()?;
                self.note(&mixture, &found, measured.first().map(|(_, first)| first));
                measured.push((mixture, found));
            }
            drop(stage);
            // The first is one scheme for all, where one has so few bits.
            let less = |(_, found): &&(Mixture, Divergences)| found.is_less_than(&measured[0].1);
            let least = measured.iter().filter(less).min_by(|a, b| a.1.kl().value.total_cmp(&b.1.kl().value));
            Ok(reported(candidates.matrices(), least.unwrap_or(&measured[0]).0.clone()))
        })
    }

    /// Notes what a mixture changes, and how much that is beside what the first one does.
    fn note(&self, mixture: &Mixture, found: &Divergences, first: Option<&Divergences>) {
        let (bits, counts, kl) = (mixture.bits, mixture.counts(), shown(found.kl()));
        let ratio = first.and_then(|first| found.ln_kl_ratio(first)).map_or(String::new(), |ratio| {
            let [low, value, high] = [ratio.low, ratio.value, ratio.high].map(f64::exp);
            format!(", by passage {value:.3} [{low:.3}, {high:.3}] times that of the first")
        });
        self.progress.note(&format!("{bits:.3} bits ({counts}): mean KL divergence {kl}{ratio}"));
    }

    /// Measures each part by itself, and goes on with the errors of all choices replaced by their costs, given how far the measurements are trusted.
    /// `apart`, half of the prompts measure none, and are given to judge mixtures by: a linear that is chosen for its low cost was probably measured
    /// too low.
    fn with_costs<T>(
        &self,
        candidates: Candidates<'_>,
        apart: bool,
        then: impl FnOnce(
            EvalSet<'_>,
            Vec<Prompt>,
            Baseline,
            &mut dyn EvalModel,
            &dyn Fn(f64) -> Vec<Matrix>,
        ) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Self { source, loader, own_prompts, progress, .. } = *self;
        candidates.expect_fits()?;
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
        let mut eval_set = EvalSet::new(&plan, inputs, &reader, &config, stops, progress)?;
        // Fewer than eight have no interval to judge by: then all are used for both.
        let enough = eval_set.prompts.len() >= 2 * CalibrationTexts::HELD_OUT;
        let others = if apart && enough { every_second(&mut eval_set.prompts) } else { Vec::new() };
        let mut model = loader.load(source, None).map_err(Error::Model)?;
        let baseline = Baseline::make(&*model, &eval_set, BTreeMap::new(), None, progress)?;
        let comparison = self.comparison(&eval_set, &baseline);

        let mut parts: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (i, spec) in candidates.specs.iter().enumerate() {
            for name in names(spec) {
                parts.entry(name).or_default().push(i);
            }
        }
        let stage = Stage::begin(progress, &format!("each part in {PROBE}"), parts.len());
        let mut found = BTreeMap::new();
        for (name, members) in parts {
            candidates.put(members.into_iter().map(|i| (i, PROBE)), &mut *model)?;
            let kl = compare(&comparison, &mut *model, &name)?.kl().value;
            found.insert(name, kl);
            stage.step()?;
        }
        drop(stage);
        let matrices = candidates.matrices();
        let (errors, costs) = (errors(matrices), distribute(candidates.specs, matrices, &found));
        then(eval_set, others, baseline, &mut *model, &|trust| with_costs(matrices, &between(&errors, &costs, trust)))
    }

    /// What the plain model says to another set, in place of a baseline, whose file goes first. The model may have parts replaced.
    fn baseline(&self, eval_set: &EvalSet<'_>, before: Baseline, model: &mut dyn EvalModel) -> Result<Baseline, Error> {
        drop(before);
        model.restore();
        Baseline::make(&*model, eval_set, BTreeMap::new(), None, self.progress)
    }

    fn comparison<'c>(&'c self, eval_set: &'c EvalSet<'c>, baseline: &'c Baseline) -> Comparison<'c> {
        Comparison { eval_set, baseline, source: self.source, progress: self.progress }
    }

    /// The smallest of the mixtures that are measured and reach the goal.
    fn reach(&self, judge: &mut Judge<'_>, model: &mut dyn EvalModel, costed: &[Matrix]) -> Result<Mixture, Error> {
        let finest = mixture::choose(costed, Goal::Bits(f64::MAX)).map_err(Error::Settings)?;
        // Bounds of ln(total), not yet known.
        let (mut low, mut high) = (f64::MIN_POSITIVE.ln(), f64::MAX.ln());
        let mut total = match judge.goal {
            OutputGoal::Kl(kl) => kl,
            OutputGoal::Match(share) => (1.0 - share).powi(2),
        };
        let mut best: Option<Mixture> = None;
        let mut nearest = String::new();
        let stage = Stage::begin(self.progress, "mixtures", TRIALS);
        for _ in 0..TRIALS {
            // Where even the finest schemes are predicted to miss the total, they are measured all the same.
            let mixture = mixture::choose(costed, Goal::Sqnr(-10.0 * total.log10())).unwrap_or_else(|_| finest.clone());
            let found = judge.judge(&mixture, model)?;
            stage.step()?;
            nearest = format!("{:.3} bits give {}", mixture.bits, found.metric);
            if found.reached {
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
            total = match (judge.goal, low > f64::MIN_POSITIVE.ln(), high < f64::MAX.ln()) {
                (_, true, true) => f64::midpoint(low, high).exp(),
                (OutputGoal::Kl(kl), ..) => total * (kl / found.most_kl.max(f64::MIN_POSITIVE)).clamp(0.1, 10.0),
                (_, true, _) => total * 4.0,
                _ => total / 4.0,
            };
        }
        drop(stage);
        best.ok_or(Error::NoMixture { nearest })
    }
}

/// Measures mixtures beside a goal, each once.
struct Judge<'a> {
    goal: OutputGoal,
    candidates: Candidates<'a>,
    comparison: &'a Comparison<'a>,
    seen: BTreeMap<Vec<Scheme>, Judged>,
}

/// What a mixture changes, beside a goal.
#[derive(Clone)]
struct Judged {
    /// Whether the worse end of the metric's interval reaches the goal.
    reached: bool,
    /// The metric of the goal.
    metric: String,
    /// The upper end of the interval of the mean KL divergence.
    most_kl: f64,
}

impl Judge<'_> {
    fn judge(&mut self, mixture: &Mixture, model: &mut dyn EvalModel) -> Result<Judged, Error> {
        if let Some(judged) = self.seen.get(&mixture.schemes) {
            return Ok(judged.clone());
        }
        let found = self.candidates.measure(mixture, self.comparison, model)?;
        let (kl, agreement) = (found.kl(), found.top1_agreement());
        let most_kl = kl.high;
        let (reached, metric) = match self.goal {
            OutputGoal::Kl(most) => (kl.high <= most, shown(kl)),
            OutputGoal::Match(least) => (agreement.low >= least, shown(agreement)),
        };
        let judged = Judged { reached, metric, most_kl };
        self.seen.insert(mixture.schemes.clone(), judged.clone());
        Ok(judged)
    }
}

/// Takes every second prompt out.
fn every_second(prompts: &mut Vec<Prompt>) -> Vec<Prompt> {
    let (mut kept, mut taken) = (Vec::new(), Vec::new());
    for (i, prompt) in prompts.drain(..).enumerate() {
        if i % 2 == 0 { kept.push(prompt) } else { taken.push(prompt) }
    }
    *prompts = kept;
    taken
}

/// The beginning of a text, all but the first tokens of which are predicted; `None` if it has no more.
fn passage(ids: &[u32]) -> Option<Passage> {
    let (context, rest) = ids.split_at_checked(READ)?;
    let continuation = rest[..rest.len().min(PREDICTED)].to_vec();
    (!continuation.is_empty()).then(|| Passage { context: context.to_vec(), continuation })
}

fn shown(Estimate { value, low, high }: Estimate) -> String {
    format!("{value:.3e} [{low:.3e}, {high:.3e}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_that_judge_are_others_than_those_that_measure() {
        let prompt =
            |id: u32| Prompt { id: id.to_string(), input_ids: vec![id], max_new_tokens: None, expected_ids: None };
        let mut measure: Vec<Prompt> = (0..5).map(prompt).collect();
        let judge = every_second(&mut measure);
        let ids = |prompts: &[Prompt]| prompts.iter().map(|prompt| prompt.input_ids[0]).collect::<Vec<_>>();
        assert_eq!((ids(&measure), ids(&judge)), (vec![0, 2, 4], vec![1, 3]));
    }
}
