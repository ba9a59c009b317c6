//! One variant of a model beside the baseline.

use std::{collections::BTreeMap, time::Instant};

use qins_model::{LinearSpec, ModelConfig, ModelSource, Policy, linears};
use qins_quant::{Fidelity, kv::KvScheme};

use crate::{
    Error, EvalSet, Progress,
    agreement::{self, Position},
    baseline::{Baseline, Written, passages, write},
    model::{EvalLoader, EvalModel, ModelError, Scoring},
    progress::Stage,
    report::{
        Candidate, Computation, Context, Figures, Judge, Layer, PromptResult, Role, Settings, continuation, forced,
        free_run,
    },
    token_match::match_length,
};

/// A variant of a model that is compared with the plain one.
#[derive(Debug)]
pub struct Variant {
    /// What to call it.
    pub name: String,
    /// Why it is in the run.
    pub role: Role,
    /// What was asked for, for the report.
    pub settings: Settings,
    /// Where its weights come from.
    pub weights: Weights,
    /// The bars it is judged by.
    pub judge: Judge,
    /// How keys and values are stored.
    pub kv: KvScheme,
    /// Whether it generates texts of its own, beside predicting the baseline's.
    pub generates: bool,
}

/// Where a variant's weights come from.
#[derive(Debug)]
pub enum Weights {
    /// As they are in the model's checkpoint.
    Plain,
    /// Encoded while loading.
    Encoded(Policy),
    /// Another checkpoint's.
    Other(ModelSource),
}

impl Variant {
    /// The variant that these settings name, judged by `judge`.
    pub fn new(role: Role, settings: Settings, weights: Weights, judge: Judge) -> Self {
        Self { name: settings.to_string(), role, settings, weights, judge, kv: KvScheme::F32, generates: true }
    }

    pub(crate) fn load(&self, source: &ModelSource, loader: &dyn EvalLoader) -> Result<Box<dyn EvalModel>, ModelError> {
        match &self.weights {
            Weights::Plain => loader.load(source, None),
            Weights::Encoded(policy) => loader.load(source, Some(policy)),
            Weights::Other(other) => loader.load(other, None),
        }
    }

    /// The scheme of a linear in this variant's file, if it is not plain.
    fn scheme(&self, spec: &LinearSpec) -> Option<&'static str> {
        match &self.weights {
            Weights::Plain => None,
            Weights::Encoded(policy) => policy.recipe(spec).map(|recipe| recipe.scheme.name()),
            Weights::Other(other) => other.checkpoint.scheme(&spec.module).map(|scheme| scheme.name()),
        }
    }
}

/// A baseline, what it was asked, and the plain weights.
pub struct Comparison<'a> {
    pub(crate) eval_set: &'a EvalSet<'a>,
    pub(crate) baseline: &'a Baseline,
    pub(crate) source: &'a ModelSource,
    pub(crate) progress: &'a dyn Progress,
}

impl Comparison<'_> {
    /// Compares a variant, loaded, with the baseline.
    pub(crate) fn candidate(&self, variant: Variant, model: &mut dyn EvalModel) -> Result<Candidate, Error> {
        let computation = variant.settings.computation;
        model.set_bf16(computation == Some(Computation::Bf16));
        model.set_kv(variant.kv);
        let answers = if computation == Some(Computation::OneThread) {
            let one = rayon::ThreadPoolBuilder::new().num_threads(1).build();
            one.map_err(|e| Error::Model(e.into())).and_then(|one| one.install(|| self.answers(&variant, &*model)))
        } else {
            self.answers(&variant, model)
        };
        model.set_bf16(false);
        model.set_kv(KvScheme::F32);
        let Answers { figures, prompts, tokens_per_second } = answers?;
        let layers = self.layers(&variant, model)?;
        let mut schemes = BTreeMap::new();
        for spec in linears(model.config()) {
            *schemes.entry(variant.scheme(&spec).unwrap_or("none").to_owned()).or_insert(0) += 1;
        }
        let sizes = model.sizes();
        let bits = variant.settings.stands_for_bits.or(sizes.bits_per_weight);
        let criteria = match variant.role {
            Role::Information => Vec::new(),
            Role::Judged | Role::Control => {
                variant.judge.criteria(&variant.settings, bits, &figures, &prompts, &layers)
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
            tokens_per_second,
            figures,
            passed: variant.role.is_satisfied(criteria.iter().all(|c| c.met)),
            criteria,
            prompts,
            layers,
        })
    }

    /// How it predicts every passage, in their order.
    pub(crate) fn positions(
        &self,
        model: &dyn EvalModel,
        name: &str,
        scoring: Scoring,
    ) -> Result<Vec<Vec<Position>>, Error> {
        let passages = passages(self.eval_set, &self.baseline.greedy);
        let stage = Stage::begin(self.progress, &format!("scoring {name}"), passages.len());
        let windows = self.eval_set.prompts.len()..self.eval_set.prompts.len() + self.eval_set.windows.len();
        let mut all = Vec::new();
        for (i, passage) in passages.iter().enumerate() {
            let continuation = &passage.continuation;
            // The windows' many tokens, one by one, would take longer than all else; they are left out then.
            let compared = if scoring == Scoring::TokenByToken && windows.contains(&i) {
                Vec::new()
            } else {
                let candidate = model.score(&passage.context, continuation, scoring).map_err(Error::Model)?;
                let baseline = self.baseline.logits(i, continuation.len())?;
                agreement::compare(&baseline, &candidate, continuation, self.baseline.vocabulary)
            };
            all.push(compared);
            stage.step();
        }
        Ok(all)
    }

    fn answers(&self, variant: &Variant, model: &dyn EvalModel) -> Result<Answers, Error> {
        let Self { eval_set, baseline, progress, .. } = *self;
        let (mut greedy, mut sampled, mut speed) = (Vec::new(), Vec::new(), None);
        if variant.generates && !eval_set.prompts.is_empty() {
            let start = Instant::now();
            greedy = write(model, eval_set, None, &variant.name, progress)?;
            let tokens: usize = greedy.iter().map(|text| text.ids.len()).sum();
            speed = Some(tokens as f64 / start.elapsed().as_secs_f64());
            if eval_set.temperature.is_some() {
                sampled = write(model, eval_set, eval_set.temperature, &format!("{}, drawn", variant.name), progress)?;
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
            contexts.extend(forced(these).map(|forced| Context { tokens: *tokens, forced }));
            rest = others;
        }
        let mut prompts = Vec::new();
        for (i, prompt) in eval_set.prompts.iter().enumerate() {
            let text = |own: &[Written], all: &[Written]| {
                let (Some(own), Some(plain)) = (own.get(i), all.get(i)) else { return Ok(None) };
                let text = eval_set.tokenizer.map(|t| t.decode(&own.ids, true)).transpose()?;
                Ok::<_, Error>(Some(continuation(&plain.ids, &own.ids, &plain.margins, text)))
            };
            let positions = &texts[i];
            let mean = |f: &dyn Fn(&Position) -> f64| {
                (!positions.is_empty()).then(|| positions.iter().map(f).sum::<f64>() / positions.len() as f64)
            };
            prompts.push(PromptResult {
                id: prompt.id.clone(),
                tokens: baseline.greedy[i].ids.len(),
                same_top_rate: mean(&|p| f64::from(u8::from(p.same_top))),
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
            forced: forced(texts),
            text: forced(windows),
            contexts,
        };
        Ok(Answers { figures, prompts, tokens_per_second: speed })
    }

    /// What each linear that is not plain keeps of its weights.
    fn layers(&self, variant: &Variant, model: &mut dyn EvalModel) -> Result<Vec<Layer>, Error> {
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
                layers.push(Layer {
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

/// Bytes of the keys and values of 1,000 tokens.
fn kv_bytes(kv: KvScheme, config: &ModelConfig) -> u64 {
    let heads = config.num_hidden_layers * config.num_key_value_heads;
    (heads * kv.bytes(config.head_dim, 1000)) as u64
}

struct Answers {
    figures: Figures,
    prompts: Vec<PromptResult>,
    tokens_per_second: Option<f64>,
}
