//! One form of a model beside the baseline.

use std::{collections::BTreeMap, error::Error, time::Instant};

use qins_burn::{
    Device, KvScheme, Loaded, Policy, fidelity, linears,
    phi3::{ModelConfig, Phi3, Precision},
    score, score_token_by_token,
};
use qins_eval::{
    agreement::{self, Position},
    report::{
        Candidate, Computation, Context, Figures, Judge, Layer, PromptResult, Role, Settings, continuation, forced,
        free_run,
    },
    token_match::match_length,
};

use crate::{
    baseline::{Baseline, Written, passages, write},
    model::{Source, stage},
    questions::Questions,
};

/// The form a candidate takes.
#[derive(Debug)]
pub(crate) struct Form {
    pub(crate) name: String,
    pub(crate) role: Role,
    /// What was asked for, for the report.
    pub(crate) settings: Settings,
    pub(crate) weights: Weights,
    pub(crate) judge: Judge,
    /// How keys and values rest.
    pub(crate) kv: KvScheme,
    /// Whether it writes texts of its own, beside predicting the baseline's.
    pub(crate) writes: bool,
}

/// Where a form's weights come from.
#[derive(Debug)]
pub(crate) enum Weights {
    /// As they are in the model's checkpoint.
    Plain,
    /// Encoded while loading.
    Encoded(Policy),
    /// Another checkpoint's.
    Other(Source),
}

impl Form {
    pub(crate) fn load(&self, source: &Source, device: &Device) -> Result<Loaded, Box<dyn Error>> {
        match &self.weights {
            Weights::Plain => source.load(None, device),
            Weights::Encoded(policy) => source.load(Some(policy), device),
            Weights::Other(other) => other.load(None, device),
        }
    }

    /// How a linear rests in this form's file, if not plain.
    fn scheme(&self, spec: &qins_burn::LinearSpec) -> Option<&'static str> {
        match &self.weights {
            Weights::Plain => None,
            Weights::Encoded(policy) => policy.recipe(spec).map(|recipe| recipe.scheme.name()),
            Weights::Other(other) => other.checkpoint.scheme(&spec.module).map(|scheme| scheme.name()),
        }
    }
}

/// A baseline, and what it was asked.
#[derive(Debug)]
pub(crate) struct Comparison<'a> {
    pub(crate) questions: &'a Questions<'a>,
    pub(crate) baseline: &'a Baseline,
    pub(crate) source: &'a Source,
}

impl Comparison<'_> {
    /// Compares a form, loaded, with the baseline.
    pub(crate) fn candidate(&self, form: Form, loaded: &mut Loaded) -> Result<Candidate, Box<dyn Error>> {
        let computation = form.settings.computation;
        if computation == Some(Computation::Bf16) {
            loaded.model.set_precision(Precision::Bf16);
        }
        loaded.model.set_kv(form.kv);
        let answers = if computation == Some(Computation::OneThread) {
            let one = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
            one.install(|| self.answers(&form, &loaded.model).map_err(|e| e.to_string()))
        } else {
            self.answers(&form, &loaded.model).map_err(|e| e.to_string())
        };
        loaded.model.set_precision(Precision::F32);
        loaded.model.set_kv(KvScheme::F32);
        let Answers { figures, prompts, tokens_per_second } = answers?;
        let layers = self.layers(&form, &mut loaded.model)?;
        let mut schemes = BTreeMap::new();
        for spec in linears(loaded.model.config()) {
            *schemes.entry(form.scheme(&spec).unwrap_or("none").to_owned()).or_insert(0) += 1;
        }
        let weights = &loaded.report;
        let bits = form.settings.stands_for_bits.or(weights.bits_per_weight());
        let criteria = match form.role {
            Role::Information => Vec::new(),
            _ => form.judge.criteria(&form.settings, bits, &figures, &prompts, &layers),
        };
        Ok(Candidate {
            name: form.name,
            role: form.role,
            settings: form.settings,
            linears: schemes,
            weight_bytes: weights.weight_bytes() as u64,
            encoded_weights: weights.encoded_weights as u64,
            bits_per_weight: bits,
            kv_bytes_per_1000_tokens: kv_bytes(form.kv, loaded.model.config()),
            tokens_per_second,
            figures,
            passed: form.role.is_satisfied(criteria.iter().all(|c| c.met)),
            criteria,
            prompts,
            layers,
        })
    }

    /// How it predicts every passage, in their order.
    pub(crate) fn positions(
        &self,
        model: &Phi3,
        name: &str,
        by_token: bool,
    ) -> Result<Vec<Vec<Position>>, Box<dyn Error>> {
        let passages = passages(self.questions, &self.baseline.greedy);
        let bar = stage(passages.len() as u64, format!("scoring {name}"));
        let windows = self.questions.prompts.len()..self.questions.prompts.len() + self.questions.windows.len();
        let mut all = Vec::new();
        for (i, passage) in passages.iter().enumerate() {
            let following = &passage.following;
            // The windows' many tokens, one by one, would take longer than all else; they are left out then.
            let compared = if by_token && windows.contains(&i) {
                Vec::new()
            } else {
                let score = if by_token { score_token_by_token } else { score };
                let candidate = score(model, &passage.read, following)?;
                let baseline = self.baseline.logits(i, following.len())?;
                agreement::compare(&baseline, &candidate, following, self.baseline.vocabulary)
            };
            all.push(compared);
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(all)
    }

    fn answers(&self, form: &Form, model: &Phi3) -> Result<Answers, Box<dyn Error>> {
        let Self { questions, baseline, .. } = *self;
        let (mut greedy, mut sampled, mut speed) = (Vec::new(), Vec::new(), None);
        if form.writes && !questions.prompts.is_empty() {
            let start = Instant::now();
            greedy = write(model, questions, None, &form.name)?;
            let tokens: usize = greedy.iter().map(|text| text.ids.len()).sum();
            speed = Some(tokens as f64 / start.elapsed().as_secs_f64());
            if questions.temperature.is_some() {
                sampled = write(model, questions, questions.temperature, &format!("{}, drawn", form.name))?;
            }
        }
        let by_token = form.settings.computation == Some(Computation::TokenByToken);
        let positions = self.positions(model, &form.name, by_token)?;
        let (texts, passages) = positions.split_at(questions.prompts.len());
        let (windows, mut rest) = passages.split_at(questions.windows.len());
        let mut contexts = Vec::new();
        for (tokens, passages) in &questions.contexts {
            let (these, others) = rest.split_at(passages.len());
            contexts.extend(forced(these).map(|forced| Context { tokens: *tokens, forced }));
            rest = others;
        }
        let mut prompts = Vec::new();
        for (i, prompt) in questions.prompts.iter().enumerate() {
            let text = |own: &[Written], all: &[Written]| {
                let (Some(own), Some(plain)) = (own.get(i), all.get(i)) else { return Ok(None) };
                let text = questions.tokenizer.map(|t| t.decode(&own.ids, true)).transpose()?;
                Ok::<_, Box<dyn Error>>(Some(continuation(&plain.ids, &own.ids, &plain.margins, text)))
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
    fn layers(&self, form: &Form, model: &mut Phi3) -> Result<Vec<Layer>, Box<dyn Error>> {
        if matches!(form.weights, Weights::Plain) {
            return Ok(Vec::new());
        }
        let resting = fidelity(model, &self.source.checkpoint)?;
        let layer = |resting: &qins_burn::Resting| {
            let scheme = form.scheme(&resting.spec);
            (scheme.is_some() || resting.fidelity.changed > 0).then(|| Layer {
                module: resting.spec.module.clone(),
                scheme: scheme.unwrap_or("none").to_owned(),
                sqnr_db: resting.fidelity.sqnr_db(),
                cosine: resting.fidelity.cosine(),
            })
        };
        Ok(resting.iter().filter_map(layer).collect())
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
