//! The whole of a run: the baseline, the controls, the candidates, the report.

use std::{collections::BTreeMap, error::Error, path::Path};

use qins_burn::{Alpha, Device, EncodeOptions, KvScheme, Policy, Recipe, Scheme, Targets, phi3::ModelConfig};
use qins_eval::report::{
    self, Computation, Judge, Model, REPORT_VERSION, Report, Role, Run, Sensitivity, Settings, Text,
};
use xxhash_rust::xxh3::Xxh3;

use crate::{
    args::DeviceArgs,
    baseline::{Baseline, Written},
    compare::{Comparison, Form, Weights},
    environment::environment,
    model::Source,
    questions::Questions,
};

/// What is compared, on what, and where the plain model's run is kept.
#[derive(Debug)]
pub(crate) struct Evaluation<'a> {
    pub(crate) source: &'a Source,
    pub(crate) device: &'a Device,
    pub(crate) device_args: &'a DeviceArgs,
    pub(crate) questions: &'a Questions<'a>,
    /// The preset's name, or that of another command.
    pub(crate) preset: &'a str,
    /// The file the baseline is read from, or if there is none, written to.
    pub(crate) kept: Option<&'a Path>,
}

impl Evaluation<'_> {
    /// Runs the baseline, `plain` forms, whatever `measure` wants of the plain model, and then the other forms, each of
    /// which is loaded when its turn comes.
    pub(crate) fn run(
        &self,
        plain: Vec<Form>,
        measure: impl FnOnce(&Comparison<'_>, &mut qins_burn::Loaded) -> Result<Vec<Sensitivity>, Box<dyn Error>>,
        forms: Vec<Form>,
    ) -> Result<Report, Box<dyn Error>> {
        let Self { source, questions, .. } = *self;
        let xxh3 = model_hash(source);
        let asked = self.asked(&xxh3);
        // What cannot be read is told before a model is loaded.
        let kept = match self.kept {
            Some(path) if path.exists() => Some(Baseline::read(path, &asked, questions, self.vocabulary()?)?),
            _ => None,
        };
        let mut loaded = source.load(None, self.device)?;
        if !loaded.report.encoded.is_empty() {
            return Err(format!("{}: expected a plain model as the baseline, found an encoded one", source.name).into());
        }
        let scratch = tempfile::tempdir()?;
        let baseline = match kept {
            Some(kept) => kept,
            None => {
                let scratch = scratch.path().join("baseline.safetensors");
                Baseline::make(&loaded.model, questions, asked, self.kept.unwrap_or(&scratch))?
            }
        };
        let comparison = Comparison { questions, baseline: &baseline, source };
        let mut candidates = Vec::new();
        for form in plain {
            candidates.push(comparison.candidate(form, &mut loaded)?);
        }
        let sensitivity = measure(&comparison, &mut loaded)?;
        // Never two models at once.
        drop(loaded);
        for form in forms {
            let mut loaded = form.load(source, self.device)?;
            candidates.push(comparison.candidate(form, &mut loaded)?);
        }
        let checkpoint = &source.checkpoint;
        Ok(Report {
            report_version: REPORT_VERSION,
            passed: candidates.iter().all(|candidate| candidate.passed),
            environment: environment(self.device_args),
            run: Run {
                preset: self.preset.to_owned(),
                max_new_tokens: questions.max_new_tokens,
                temperature: questions.temperature,
                seed: questions.seed,
                prompts: questions.prompts_data(),
                text: questions.text_data(),
            },
            model: Model {
                name: source.name.clone(),
                model_type: checkpoint.config()["model_type"].as_str().unwrap_or_default().to_owned(),
                parameters: checkpoint
                    .tensors()
                    .filter_map(|t| checkpoint.raw(t))
                    .map(|(_, shape, _)| shape.iter().product::<usize>() as u64)
                    .sum(),
                weight_bytes: checkpoint.tensor_bytes() as u64,
                xxh3,
            },
            baseline: report::Baseline {
                generated_tokens: baseline.greedy.iter().map(|text| text.ids.len()).sum(),
                tokens_per_second: baseline.tokens_per_second,
                texts: self.texts(&baseline.greedy)?,
                sampled: self.texts(&baseline.sampled)?,
            },
            candidates,
            sensitivity,
        })
    }

    fn vocabulary(&self) -> Result<usize, Box<dyn Error>> {
        let checkpoint = &self.source.checkpoint;
        Ok(ModelConfig::parse(checkpoint.config(), &checkpoint.config_path())?.vocab_size)
    }

    /// What a kept baseline has to be the answer to.
    fn asked(&self, model: &str) -> BTreeMap<String, String> {
        let questions = self.questions;
        let text = questions.text_data().map_or("none".to_owned(), |text| text.xxh3);
        let drawn = questions.temperature.map_or("none".to_owned(), |t| format!("{t}, seed {}", questions.seed));
        [
            ("model", model.to_owned()),
            ("prompts", questions.prompts_data().xxh3),
            ("stop ids", format!("{:?}", questions.stop_ids)),
            ("temperature", drawn),
            ("text", text),
            ("backend", self.device_args.backend.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn texts(&self, written: &[Written]) -> Result<Vec<Text>, Box<dyn Error>> {
        let decode = |ids: &[u32]| self.questions.tokenizer.map(|t| t.decode(ids, true)).transpose();
        let texts = self.questions.prompts.iter().zip(written).map(|(prompt, text)| {
            Ok(Text {
                id: prompt.id.clone(),
                prompt: decode(&prompt.input_ids)?,
                input_ids: prompt.input_ids.clone(),
                text: decode(&text.ids)?,
                generated_ids: text.ids.clone(),
                margins: text.margins.clone(),
            })
        });
        texts.collect()
    }
}

/// xxh3 of a model's configuration and of every tensor, its name, type, shape and bytes.
fn model_hash(source: &Source) -> String {
    let checkpoint = &source.checkpoint;
    let mut hash = Xxh3::new();
    hash.update(checkpoint.config().to_string().as_bytes());
    let mut names: Vec<&str> = checkpoint.tensors().collect();
    names.sort_unstable();
    for name in names {
        if let Some((dtype, shape, bytes)) = checkpoint.raw(name) {
            hash.update(format!("{name} {dtype:?} {shape:?}").as_bytes());
            hash.update(bytes);
        }
    }
    format!("{:016x}", hash.digest())
}

/// The plain model, computed otherwise: exactly the same, in another order, and with the noise that users accept.
pub(crate) fn plain_controls() -> Vec<Form> {
    let form = |role, computation, writes| {
        let settings = Settings { scheme: "none".to_owned(), computation, ..Settings::default() };
        Form {
            name: settings.to_string(),
            role,
            settings,
            weights: Weights::Plain,
            judge: Judge::Bits,
            kv: KvScheme::F32,
            writes,
        }
    };
    vec![
        form(Role::Judged, None, true),
        form(Role::Judged, Some(Computation::OneThread), false),
        form(Role::Judged, Some(Computation::TokenByToken), false),
        form(Role::Information, Some(Computation::Bf16), true),
    ]
}

/// The plain model with its keys and values at rest in these forms.
pub(crate) fn with_cache(schemes: &[KvScheme]) -> Vec<Form> {
    let form = |&kv: &KvScheme| {
        let settings = Settings { scheme: "none".to_owned(), kv: Some(kv.to_string()), ..Settings::default() };
        let (name, role) = (settings.to_string(), Role::Judged);
        Form { name, role, settings, weights: Weights::Plain, judge: Judge::Bits, kv, writes: true }
    };
    schemes.iter().map(form).collect()
}

/// Eight bits at the report's α, to look at, and at one so small that the codes collapse, which must fail.
pub(crate) fn encoded_controls(targets: &Targets, judge: Judge) -> Result<Vec<Form>, String> {
    let collapsed = Alpha::new(0.01).map_err(|e| e.to_string())?;
    let form = |(role, alpha): (Role, Alpha)| {
        let settings = Settings {
            scheme: Scheme::Q8.to_string(),
            targets: targets.to_string(),
            alpha: Some(alpha.get()),
            ..Settings::default()
        };
        let options = EncodeOptions { alpha: Some(alpha), ..EncodeOptions::default() };
        let policy = Policy::new(targets.clone(), Recipe { options, ..Scheme::Q8.into() });
        Form {
            name: settings.to_string(),
            role,
            settings,
            weights: Weights::Encoded(policy),
            judge,
            kv: KvScheme::F32,
            writes: true,
        }
    };
    Ok([(Role::Information, Alpha::ONE), (Role::Control, collapsed)].map(form).into())
}
