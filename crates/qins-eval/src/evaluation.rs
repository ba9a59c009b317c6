//! An evaluation from start to end: baseline, controls, candidates, report.

use std::{collections::BTreeMap, path::Path};

use qins_model::{ModelConfig, ModelSource, Tokenizer};
use qins_quant::output::Output;
use xxhash_rust::xxh3::Xxh3;

use crate::{
    Error, EvalSet, Progress,
    baseline::Baseline,
    comparison::{Comparison, Variant},
    generated::GeneratedText,
    model::{EvalLoader, EvalModel},
    report::{self, Environment, Model, REPORT_VERSION, Report, Run, Sensitivity, Text},
};

/// Compares variants of a model with its plain weights, and writes down the result as a [`Report`].
pub struct Evaluation<'a> {
    /// The model, with plain weights.
    pub source: &'a ModelSource,
    /// Loads the model and its variants.
    pub loader: &'a dyn EvalLoader,
    /// The inputs, the same for all.
    pub eval_set: &'a EvalSet<'a>,
    /// The preset's name, for the report.
    pub preset: &'a str,
    /// The name of the compute backend; a baseline file is only valid for the backend it was computed on.
    pub backend: String,
    /// Describes the machine; called at the end, so that the peak memory is that of the whole run.
    pub environment: &'a dyn Fn() -> Environment,
    /// The baseline file: read when it exists, else written. With `None` the baseline is not kept.
    pub baseline_file: Option<&'a Path>,
    /// Receives progress and notes.
    pub progress: &'a dyn Progress,
}

impl Evaluation<'_> {
    /// Computes or reads the baseline; compares the `plain` variants, which use the same loaded model; calls `measure` with that
    /// model, such as for a sensitivity analysis; then loads and compares each of `variants` in turn. At most one model is in
    /// memory at a time.
    ///
    /// `measure` adds what it has measured to the list. The report's `passed` is false when a judged candidate missed a threshold, or
    /// a negative control missed none.
    ///
    /// When [`Progress::is_cancelled`] becomes true after the baseline is complete, the report is a partial one: it has what was
    /// measured until then, names what was not, and `passed` is false.
    ///
    /// # Errors
    /// [`Error::Model`] or [`Error::Prompt`] when a model cannot be loaded or fails; [`Error::Input`] when the baseline file was
    /// computed from other inputs or is damaged, or the model is not plain; [`Error::Interrupted`] when the work was cancelled before
    /// the baseline was complete; any other error of `measure`.
    pub fn run(
        &self,
        plain: Vec<Variant>,
        measure: impl FnOnce(&Comparison<'_>, &mut dyn EvalModel, &mut Vec<Sensitivity>) -> Result<(), Error>,
        variants: Vec<Variant>,
    ) -> Result<Report, Error> {
        let Self { source, eval_set, loader, progress, .. } = *self;
        let xxh3 = model_hash(source);
        let inputs = self.inputs(&xxh3);
        // An invalid file is reported before a model is loaded.
        let (kept, output) = match self.baseline_file {
            Some(path) if path.exists() => (Some(Baseline::read(path, &inputs, eval_set, self.vocabulary()?)?), None),
            Some(path) => (None, Some(Output::open(path)?)),
            None => (None, None),
        };
        if source.checkpoint.quantization().is_some() {
            return Err(Error::input(&source.name, "expected a plain model as the baseline, found an encoded one"));
        }
        let mut model = loader.load(source, None).map_err(Error::Model)?;
        let baseline = match kept {
            Some(kept) => kept,
            None => Baseline::make(&*model, eval_set, inputs, output, progress)?,
        };
        let comparison = Comparison { eval_set, baseline: &baseline, source, progress };
        let names: Vec<String> = plain.iter().chain(&variants).map(|variant| variant.name.clone()).collect();
        let (mut candidates, mut sensitivity) = (Vec::new(), Vec::new());
        let compare = || -> Result<(), Error> {
            for variant in plain {
                candidates.push(comparison.candidate(variant, &mut *model)?);
            }
            measure(&comparison, &mut *model, &mut sensitivity)?;
            // At most one model is in memory.
            drop(model);
            for variant in variants {
                if progress.is_cancelled() {
                    return Err(Error::Interrupted);
                }
                let mut model = variant.load(source, loader).map_err(Error::Model)?;
                candidates.push(comparison.candidate(variant, &mut *model)?);
            }
            Ok(())
        };
        let partial = match compare() {
            Ok(()) => false,
            Err(Error::Interrupted) => true,
            Err(error) => return Err(error),
        };
        let missing = names.into_iter().skip(candidates.len()).collect();
        let checkpoint = &source.checkpoint;
        Ok(Report {
            report_version: REPORT_VERSION,
            partial,
            missing,
            passed: !partial && candidates.iter().all(|candidate| candidate.passed),
            environment: (self.environment)(),
            run: Run {
                preset: self.preset.to_owned(),
                max_new_tokens: eval_set.max_new_tokens,
                temperature: eval_set.temperature,
                seed: eval_set.seed,
                prompts: eval_set.prompts_data(),
                text: eval_set.text_data(),
                special_tokens: eval_set.tokenizer.map(Tokenizer::added_tokens),
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
        Ok(ModelConfig::of(checkpoint)?.vocab_size)
    }

    /// The inputs that a kept baseline must have been computed from.
    fn inputs(&self, model: &str) -> BTreeMap<String, String> {
        let eval_set = self.eval_set;
        let text = eval_set.text_data().map_or("none".to_owned(), |text| text.xxh3);
        let sampled = eval_set.temperature.map_or("none".to_owned(), |t| format!("{t}, seed {}", eval_set.seed));
        [
            ("model", model.to_owned()),
            ("prompts", eval_set.prompts_data().xxh3),
            ("stop ids", format!("{:?}", eval_set.stop_ids)),
            ("temperature", sampled),
            ("text", text),
            ("backend", self.backend.clone()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn texts(&self, written: &[GeneratedText]) -> Result<Vec<Text>, Error> {
        let decode = |ids: &[u32]| self.eval_set.tokenizer.map(|t| t.decode(ids, true)).transpose();
        let texts = self.eval_set.prompts.iter().zip(written).map(|(prompt, text)| {
            Ok(Text {
                id: prompt.id.clone(),
                prompt: decode(&prompt.input_ids)?,
                input_ids: prompt.input_ids.clone(),
                text: self.eval_set.continuation(prompt, &text.ids)?,
                generated_ids: text.ids.clone(),
                margins: text.margins.clone(),
            })
        });
        texts.collect()
    }
}

/// xxh3 of a model's configuration and of each tensor's name, type, shape and bytes.
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
