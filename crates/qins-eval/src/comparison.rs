//! Comparison of one variant of a model with the baseline.

use std::{collections::BTreeMap, time::Instant};

use qins_model::{LinearSpec, ModelConfig, ModelSource, Policy, linears};
use qins_quant::{Fidelity, kv::KvScheme};

use crate::{
    Error, EvalSet, Progress,
    agreement::{self, Divergence, Position},
    baseline::{Baseline, passages},
    generated::{GeneratedText, generate_texts},
    model::{Arithmetic, EvalLoader, EvalModel, ModelError, Scoring},
    progress::Stage,
    report::{
        Candidate, Computation, Context, Figures, LayerFidelity, PromptResult, Role, Settings, Thresholds,
        continuation, free_run, teacher_forced,
    },
    token_match::match_length,
};

/// A variant of a model: encoded weights, an encoded KV cache, or other arithmetic. It is compared with the baseline, the same
/// model with plain weights in FP32 arithmetic.
#[derive(Debug)]
pub struct Variant {
    /// Its name in the report.
    pub name: String,
    /// Whether it must pass, must fail, or only informs.
    pub role: Role,
    /// The settings it was made with, for the report.
    pub settings: Settings,
    /// Where its weights come from.
    pub weights: Weights,
    /// The thresholds its metrics are compared with.
    pub thresholds: Thresholds,
    /// How the KV cache is stored.
    pub kv: KvScheme,
    /// Whether it generates texts, besides predicting the baseline's tokens.
    pub generates: bool,
}

/// Where a variant's weights come from.
#[derive(Debug)]
pub enum Weights {
    /// The model's checkpoint, as it is.
    Plain,
    /// The model's checkpoint, encoded while loading.
    Encoded(Policy),
    /// Another checkpoint of the same shape, as it is.
    Checkpoint(ModelSource),
}

impl Variant {
    /// A variant named after its settings, with a plain `f32` KV cache, that generates texts.
    pub fn new(role: Role, settings: Settings, weights: Weights, thresholds: Thresholds) -> Self {
        Self { name: settings.to_string(), role, settings, weights, thresholds, kv: KvScheme::F32, generates: true }
    }

    pub(crate) fn load(&self, source: &ModelSource, loader: &dyn EvalLoader) -> Result<Box<dyn EvalModel>, ModelError> {
        match &self.weights {
            Weights::Plain => loader.load(source, None),
            Weights::Encoded(policy) => loader.load(source, Some(policy)),
            Weights::Checkpoint(other) => loader.load(other, None),
        }
    }

    /// The scheme a linear is encoded with; `None` where it is plain.
    fn scheme(&self, spec: &LinearSpec) -> Option<&'static str> {
        match &self.weights {
            Weights::Plain => None,
            Weights::Encoded(policy) => policy.recipe(spec).map(|recipe| recipe.scheme.name()),
            Weights::Checkpoint(other) => other.checkpoint.scheme(&spec.module).map(|scheme| scheme.name()),
        }
    }
}

/// A baseline with the evaluation set it was computed on, and the plain weights. [`Evaluation::run`](crate::Evaluation::run) makes
/// one, and [`Part::measure`](crate::sensitivity::Part::measure) uses it.
pub struct Comparison<'a> {
    pub(crate) eval_set: &'a EvalSet<'a>,
    pub(crate) baseline: &'a Baseline,
    pub(crate) source: &'a ModelSource,
    pub(crate) progress: &'a dyn Progress,
}

impl Comparison<'_> {
    /// Compares a loaded variant with the baseline.
    pub(crate) fn candidate(&self, variant: Variant, model: &mut dyn EvalModel) -> Result<Candidate, Error> {
        let computation = variant.settings.computation;
        model.set_arithmetic(match computation {
            None | Some(Computation::OneThread | Computation::TokenByToken) => Arithmetic::F32,
            Some(Computation::Bf16) => Arithmetic::Bf16,
            Some(Computation::CoarseKeys) => Arithmetic::CoarseKeys,
        });
        model.set_kv(variant.kv);
        let measurements = if computation == Some(Computation::OneThread) {
            let one = rayon::ThreadPoolBuilder::new().num_threads(1).build();
            one.map_err(|e| Error::Model(e.into())).and_then(|one| one.install(|| self.measurements(&variant, &*model)))
        } else {
            self.measurements(&variant, model)
        };
        model.set_arithmetic(Arithmetic::F32);
        model.set_kv(KvScheme::F32);
        let Measurements { figures, prompts, tokens_per_second } = measurements?;
        let layers = self.layers(&variant, model)?;
        let mut schemes = BTreeMap::new();
        for spec in linears(model.config()) {
            *schemes.entry(variant.scheme(&spec).unwrap_or("none").to_owned()).or_insert(0) += 1;
        }
        let sizes = model.sizes();
        let bits = variant.settings.nominal_bits_per_weight.or(sizes.bits_per_weight);
        let criteria = match variant.role {
            Role::Information => Vec::new(),
            Role::Judged | Role::Control => {
                variant.thresholds.criteria(&variant.settings, bits, &figures, &prompts, &layers)
            }
        };
        Ok(Candidate {
            name: variant.name,
            role: variant.role,
            settings: variant.settings,
            linears: schemes,
            weight_bytes: sizes.bytes,
            encoded_weights: sizes.encoded_weights,
            bits_per_weight: bits,
            kv_bytes_per_1000_tokens: kv_bytes(variant.kv, model.config()),
            kv_bits_per_number: variant.kv.bits_per_number(model.config().head_dim),
            tokens_per_second,
            figures,
            passed: variant.role.is_satisfied(criteria.iter().all(|c| c.passed)),
            criteria,
            prompts,
            layers,
        })
    }

    /// Compares the model's predictions of every passage with the baseline's: one list of positions per passage, in order.
    fn positions(&self, model: &dyn EvalModel, name: &str, scoring: Scoring) -> Result<Vec<Vec<Position>>, Error> {
        let vocabulary = self.baseline.vocabulary;
        let compare = |p: &[f32], q: &[f32], targets: &[u32]| agreement::compare(p, q, targets, vocabulary);
        self.scored(model, name, scoring, compare)
    }

    /// The same, for divergences alone.
    pub(crate) fn divergences(&self, model: &dyn EvalModel, name: &str) -> Result<Vec<Vec<Divergence>>, Error> {
        let vocabulary = self.baseline.vocabulary;
        let compare = |p: &[f32], q: &[f32], _: &[u32]| agreement::divergences(p, q, vocabulary);
        self.scored(model, name, Scoring::Batched, compare)
    }

    /// What `compare` gives of the logits of the baseline and of the model, and the tokens that they predict: one list per passage.
    fn scored<T>(
        &self,
        model: &dyn EvalModel,
        name: &str,
        scoring: Scoring,
        compare: impl Fn(&[f32], &[f32], &[u32]) -> Vec<T>,
    ) -> Result<Vec<Vec<T>>, Error> {
        let passages = passages(self.eval_set, &self.baseline.greedy);
        let stage = Stage::begin(self.progress, &format!("scoring {name}"), passages.len());
        let windows = self.eval_set.prompts.len()..self.eval_set.prompts.len() + self.eval_set.windows.len();
        let mut all = Vec::new();
        for (i, passage) in passages.iter().enumerate() {
            let continuation = &passage.continuation;
            // Token by token, the many tokens of the windows would take longer than all else: they are skipped.
            let compared = if scoring == Scoring::TokenByToken && windows.contains(&i) {
                Vec::new()
            } else {
                let candidate = model.score(&passage.context, continuation, scoring).map_err(Error::Model)?;
                let baseline = self.baseline.logits(i, continuation.len())?;
                compare(&baseline, &candidate, continuation)
            };
            all.push(compared);
            stage.step()?;
        }
        Ok(all)
    }

    fn measurements(&self, variant: &Variant, model: &dyn EvalModel) -> Result<Measurements, Error> {
        let Self { eval_set, baseline, progress, .. } = *self;
        let (mut greedy, mut sampled, mut speed) = (Vec::new(), Vec::new(), None);
        if variant.generates && !eval_set.prompts.is_empty() {
            let start = Instant::now();
            greedy = generate_texts(model, eval_set, None, &variant.name, progress)?;
            let tokens: usize = greedy.iter().map(|text| text.ids.len()).sum();
            speed = Some(tokens as f64 / start.elapsed().as_secs_f64());
            if eval_set.temperature.is_some() {
                sampled = generate_texts(
                    model,
                    eval_set,
                    eval_set.temperature,
                    &format!("{}, sampled", variant.name),
                    progress,
                )?;
            }
        }
        let scoring = match variant.settings.computation {
            Some(Computation::TokenByToken) => Scoring::TokenByToken,
            _ => Scoring::Batched,
        };
        let positions = self.positions(model, &variant.name, scoring)?;
        let (texts, passages) = positions.split_at(eval_set.prompts.len());
        let (windows, mut rest) = passages.split_at(eval_set.windows.len());
        let mut contexts = Vec::new();
        for (tokens, passages) in &eval_set.contexts {
            let (these, others) = rest.split_at(passages.len());
            let length = passages.first().map_or(0, |passage| tokens + passage.continuation.len());
            let context = |teacher_forced| Context { tokens: *tokens, length, teacher_forced };
            contexts.extend(teacher_forced(these).map(context));
            rest = others;
        }
        let mut prompts = Vec::new();
        for (i, prompt) in eval_set.prompts.iter().enumerate() {
            let text = |own: &[GeneratedText], all: &[GeneratedText]| {
                let (Some(own), Some(plain)) = (own.get(i), all.get(i)) else { return Ok(None) };
                let text = eval_set.continuation(prompt, &own.ids)?;
                Ok::<_, Error>(Some(continuation(&plain.ids, &own.ids, &plain.margins, text)))
            };
            let positions = &texts[i];
            let mean = |f: &dyn Fn(&Position) -> f64| {
                (!positions.is_empty()).then(|| positions.iter().map(f).sum::<f64>() / positions.len() as f64)
            };
            prompts.push(PromptResult {
                id: prompt.id.clone(),
                tokens: baseline.greedy[i].ids.len(),
                top1_agreement: mean(&|p| f64::from(u8::from(p.top1_agrees))),
                mean_kl: mean(&|p| p.kl),
                expected: prompt
                    .expected_ids
                    .as_ref()
                    .zip(greedy.get(i))
                    .map(|(expected, own)| [match_length(expected, &own.ids), expected.len()]),
                greedy: text(&greedy, &baseline.greedy)?,
                sampled: text(&sampled, &baseline.sampled)?,
            });
        }
        let figures = Figures {
            greedy: free_run(prompts.iter().filter_map(|p| p.greedy.as_ref())),
            sampled: free_run(prompts.iter().filter_map(|p| p.sampled.as_ref())),
            teacher_forced: teacher_forced(texts),
            text: teacher_forced(windows),
            contexts,
        };
        Ok(Measurements { figures, prompts, tokens_per_second: speed })
    }

    /// The weight error of each linear whose weights are not the plain ones.
    fn layers(&self, variant: &Variant, model: &mut dyn EvalModel) -> Result<Vec<LayerFidelity>, Error> {
        if matches!(variant.weights, Weights::Plain) {
            return Ok(Vec::new());
        }
        let mut specs: BTreeMap<String, LinearSpec> =
            linears(model.config()).into_iter().map(|spec| (spec.module.clone(), spec)).collect();
        let mut layers = Vec::new();
        let mut missing = Ok(());
        let visited = model.visit_weights(&mut |module, decoded| {
            let Some(spec) = specs.remove(module) else { return };
            let plain = match spec.plain(&self.source.checkpoint) {
                Ok((_, plain)) => plain.widen(),
                Err(error) => return missing = Err(error),
            };
            let (scheme, fidelity) = (variant.scheme(&spec), Fidelity::of(&plain, &decoded));
            if scheme.is_some() || fidelity.changed > 0 {
                let (sqnr_db, cosine) = (fidelity.sqnr_db(), fidelity.cosine());
                layers.push(LayerFidelity {
                    module: spec.module,
                    scheme: scheme.unwrap_or("none").to_owned(),
                    sqnr_db,
                    cosine,
                });
            }
        });
        visited.map_err(Error::Model)?;
        missing?;
        Ok(layers)
    }
}

/// Bytes of a KV cache of 1,000 tokens.
fn kv_bytes(kv: KvScheme, config: &ModelConfig) -> u64 {
    let heads = config.layers.len() * config.num_key_value_heads;
    (heads * kv.bytes(config.head_dim, 1000)) as u64
}

struct Measurements {
    figures: Figures,
    prompts: Vec<PromptResult>,
    tokens_per_second: Option<f64>,
}
