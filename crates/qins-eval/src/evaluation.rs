//! The whole of a run: the baseline, the controls, the candidates, the report.

use std::{collections::BTreeMap, path::Path};

use qins_model::{ModelConfig, ModelSource};
use xxhash_rust::xxh3::Xxh3;

use crate::{
    Error, EvalSet, Progress,
    baseline::{Baseline, Written},
    comparison::{Comparison, Variant},
    model::{EvalLoader, EvalModel},
    report::{self, Environment, Model, REPORT_VERSION, Report, Run, Sensitivity, Text},
};

/// What is compared, on what, and where the plain model's run is kept.
pub struct Evaluation<'a> {
    /// The plain model.
    pub source: &'a ModelSource,
    /// Loads it, and its variants.
    pub loader: &'a dyn EvalLoader,
    /// What each is asked.
    pub eval_set: &'a EvalSet<'a>,
    /// The preset's name, for the report.
    pub preset: &'a str,
    /// What computes: a baseline that was kept is that of one backend.
    pub backend: String,
    /// Describes the machine, once the work is done.
    pub environment: &'a dyn Fn() -> Environment,
    /// The file the baseline is read from, or if there is none, written to.
    pub kept: Option<&'a Path>,
    /// Is told how far it is.
    pub progress: &'a dyn Progress,
}

impl Evaluation<'_> {
    /// Runs the baseline, variants with `plain` weights, whatever `measure` wants of the plain model, and then the other variants,
    /// each of which is loaded when its turn comes: never are two models in memory.
    ///
    /// # Errors
    /// When a model cannot be loaded or fails, or a kept baseline is that of something else.
    pub fn run(
        &self,
        plain: Vec<Variant>,
        measure: impl FnOnce(&Comparison<'_>, &mut dyn EvalModel) -> Result<Vec<Sensitivity>, Error>,
        variants: Vec<Variant>,
    ) -> Result<Report, Error> {
        let Self { source, eval_set, loader, progress, .. } = *self;
        let xxh3 = model_hash(source);
        let asked = self.asked(&xxh3);
        // What cannot be read is reported before a model is loaded.
        let kept = match self.kept {
            Some(path) if path.exists() => Some(Baseline::read(path, &asked, eval_set, self.vocabulary()?)?),
            _ => None,
        };
        if source.checkpoint.quantization().is_some() {
            return Err(Error::input(&source.name, "expected a plain model as the baseline, found an encoded one"));
        }
        let mut model = loader.load(source, None).map_err(Error::Model)?;
        let scratch = tempfile::tempdir().map_err(|source| Error::Io { path: std::env::temp_dir(), source })?;
        let baseline = match kept {
            Some(kept) => kept,
            None => {
                let scratch = scratch.path().join("baseline.safetensors");
                Baseline::make(&*model, eval_set, asked, self.kept.unwrap_or(&scratch), progress)?
            }
        };
        let comparison = Comparison { eval_set, baseline: &baseline, source, progress };
        let mut candidates = Vec::new();
        for variant in plain {
            candidates.push(comparison.candidate(variant, &mut *model)?);
        }
        let sensitivity = measure(&comparison, &mut *model)?;
        // Never two models at once.
        drop(model);
        for variant in variants {
            let mut model = variant.load(source, loader).map_err(Error::Model)?;
            candidates.push(comparison.candidate(variant, &mut *model)?);
        }
        let checkpoint = &source.checkpoint;
        Ok(Report {
            report_version: REPORT_VERSION,
            passed: candidates.iter().all(|candidate| candidate.passed),
            environment: (self.environment)(),
            run: Run {
                preset: self.preset.to_owned(),
                max_new_tokens: eval_set.max_new_tokens,
                temperature: eval_set.temperature,
                seed: eval_set.seed,
                prompts: eval_set.prompts_data(),
                text: eval_set.text_data(),
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

    fn vocabulary(&self) -> Result<usize, Error> {
        let checkpoint = &self.source.checkpoint;
        Ok(ModelConfig::of(&checkpoint)?.vocab_size)
    }

    /// What a kept baseline has to be the answer to.
    fn asked(&self, model: &str) -> BTreeMap<String, String> {
        let eval_set = self.eval_set;
        let text = eval_set.text_data().map_or("none".to_owned(), |text| text.xxh3);
        let drawn = eval_set.temperature.map_or("none".to_owned(), |t| format!("{t}, seed {}", eval_set.seed));
        [
            ("model", model.to_owned()),
            ("prompts", eval_set.prompts_data().xxh3),
            ("stop ids", format!("{:?}", eval_set.stop_ids)),
            ("temperature", drawn),
            ("text", text),
            ("backend", self.backend.clone()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn texts(&self, written: &[Written]) -> Result<Vec<Text>, Error> {
        let decode = |ids: &[u32]| self.eval_set.tokenizer.map(|t| t.decode(ids, true)).transpose();
        let texts = self.eval_set.prompts.iter().zip(written).map(|(prompt, text)| {
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
fn model_hash(source: &ModelSource) -> String {
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
