//! What an evaluation reads: `--preset`, `--prompts` and their like.

use std::{error::Error, path::PathBuf};

use clap::Args;
use qins_eval::{CONTEXT_TAIL_TOKENS, EvalInputs, EvalSet, Plan, Preset, REPORT_MODEL, Split};
use qins_model::{ModelConfig, ModelSource, TextReader, stop_ids};

use super::{ModelArgs, parse_temperature};
use crate::{
    load::own_prompts,
    output::{Outputs, is_stdout},
    stages::Bars,
};

/// The inputs of an evaluation.
#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// Size of the evaluation: quick, standard, report, long or cache [default: quick for the embedded model, standard for others]
    #[arg(long, value_name = "PRESET")]
    preset: Option<Preset>,
    /// A prompts file, `-` for standard input, one JSON object per line: {"id", one of "prompt", "messages" and "input_ids",
    /// "max_new_tokens"}, and optionally "expected_ids", which the greedy text of every judged variant must begin with
    #[arg(long, value_name = "FILE")]
    pub(crate) prompts: Option<PathBuf>,
    /// A text file to score, instead of the standard text. May be repeated
    #[arg(long, value_name = "FILE")]
    text: Vec<PathBuf>,
    /// Score the end of contexts of these lengths in tokens, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "TOKENS", value_parser = parse_context)]
    contexts: Vec<usize>,
    /// Maximum number of tokens to generate, unless a prompt sets its own
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,
    /// Sample texts at this temperature too, with the same random numbers for every variant; 0 for greedy texts only
    #[arg(long, value_name = "T", value_parser = parse_temperature, allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Seed of the random numbers of texts that are sampled [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The baseline file: read if it exists, else written
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,
}

impl EvalArgs {
    /// The model of `--model`, or the preset's default: the source report's model for `report`, else the embedded one.
    pub(crate) fn model(&self, mut named: ModelArgs) -> ModelArgs {
        if named.model.is_none() && self.preset == Some(Preset::Report) {
            named.model = Some(REPORT_MODEL.into());
        }
        named
    }

    pub(crate) fn preset(&self, model: &ModelArgs) -> Preset {
        self.preset.unwrap_or(if model.model.is_some() { Preset::Standard } else { Preset::Quick })
    }

    /// What is evaluated, known before a model is opened or downloaded.
    pub(crate) fn plan(&self, model: &ModelArgs) -> Result<Plan, Box<dyn Error>> {
        let preset = self.preset(model);
        let mut plan = preset.plan(model.model.is_none());
        if !self.contexts.is_empty() {
            plan.contexts = self.contexts.iter().map(|tokens| preset.context(*tokens)).collect();
        }
        if plan.prompt_stride.is_none() && self.prompts.is_none() {
            let given = [
                (self.max_new_tokens.is_some(), "--max-new-tokens"),
                (self.temperature.is_some(), "--temperature"),
                (self.seed.is_some(), "--seed"),
            ];
            if let Some((_, option)) = given.into_iter().find(|(given, _)| *given) {
                return Err(format!("expected --prompts with {option}, found preset {preset}, which has none").into());
            }
        }
        plan.max_new_tokens = self.max_new_tokens.unwrap_or(plan.max_new_tokens);
        plan.temperature = self.temperature.or(plan.temperature).filter(|t| *t > 0.0);
        if self.seed.is_some() && plan.temperature.is_none() {
            return Err("expected a --temperature above 0 with --seed, found none: all texts are greedy".into());
        }
        Ok(plan)
    }

    /// The evaluation set of a [plan](Self::plan).
    pub(crate) fn eval_set<'a>(
        &self,
        plan: &Plan,
        model: &ModelArgs,
        source: &ModelSource,
        reader: &'a TextReader,
        split: Split,
    ) -> Result<EvalSet<'a>, Box<dyn Error>> {
        let config = ModelConfig::of(&source.checkpoint)?;
        let stops = stop_ids(source.checkpoint.files(), &config)?;
        let own = own_prompts(source);
        let own_prompts = own.filter(|_| self.preset(model) == Preset::Quick);
        // A search uses a model's own prompts where it has any.
        let split = if own.is_some() == own_prompts.is_some() { split } else { Split::All };
        let inputs = EvalInputs { prompts: self.prompts.as_deref(), texts: &self.text, own_prompts, split };
        let mut eval_set = EvalSet::new(plan, inputs, reader, &config, stops, &Bars::default())?;
        eval_set.seed = self.seed.unwrap_or(0);
        Ok(eval_set)
    }

    /// Adds the files that are read, and the baseline file: read if it exists, else written.
    pub(crate) fn files(&self, outputs: Outputs) -> Result<Outputs, Box<dyn Error>> {
        let outputs = outputs.reads("--prompts", self.prompts.as_deref());
        let outputs = self.text.iter().fold(outputs, |outputs, text| outputs.reads("--text", Some(text)));
        if let Some(file) = self.baseline.as_deref().filter(|file| file.to_str().is_none()) {
            return Err(
                format!("{}: expected a --baseline with a name in UTF-8, found other bytes", file.display()).into()
            );
        }
        match self.baseline.as_deref() {
            Some(file) if file.is_file() && !is_stdout(file) => Ok(outputs.reads("--baseline", Some(file))),
            Some(file) => {
                let mut outputs = outputs;
                match outputs.open("--baseline", file)?.file() {
                    Some(_) => Ok(outputs),
                    // Its logits are read again and again.
                    None => Err(format!("{}: expected a regular file, found a device or pipe", file.display()).into()),
                }
            }
            None => Ok(outputs),
        }
    }

    pub(crate) fn preset_name(&self, model: &ModelArgs) -> &'static str {
        self.preset(model).name()
    }
}

fn parse_context(text: &str) -> Result<usize, String> {
    let tokens: usize = text.parse().map_err(|e: std::num::ParseIntError| e.to_string())?;
    if tokens > CONTEXT_TAIL_TOKENS {
        Ok(tokens)
    } else {
        Err(format!("expected more than the {CONTEXT_TAIL_TOKENS} tokens that are scored, found {tokens}"))
    }
}
