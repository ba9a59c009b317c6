//! `qins validate`.

use std::{
    error::Error,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use qins_eval::{
    AFTER_CONTEXT, EvalInputs, EvalSet, Evaluation, Preset, REPORT_MODEL, Split, Variant, Weights, encoded_controls,
    kv_variants, plain_controls,
    report::{Judge, Report, Role, Settings, Terminal, page, summary},
};
use qins_model::{ModelConfig, ModelSource, OutputGoal, TextReader, stop_ids};
use qins_quant::{Recipe, Scheme, kv::KvScheme};

use crate::{
    Outcome,
    args::{DeviceArgs, EncodeArgs, ModelArgs, OtherCheckpoint, SchemeOrNone, Target, parse_temperature},
    environment::environment,
    load::{Loader, own_prompts},
    model,
    output::{expect_writable, write_whole},
    policy::{Engine, policy},
    stages::Bars,
};

/// Compare encoded forms of a model with its plain weights, token against token.
///
/// Each form is compared with the plain model in FP32 arithmetic in two ways: free-running (both write on their own;
/// generated tokens are counted) and teacher-forced (both read the same tokens, those the plain model wrote and those of a
/// text; predictions are compared). Without `--scheme` the forms `companded-f32` and `q8` are judged. Beside them, in every run: the
/// plain model against itself, which must agree exactly; with one thread, and reading token by token, which must agree
/// but for rounding; in bf16 arithmetic, the noise that users of that type accept; 8 bits at the report's α = 1, to
/// look at; and a deliberately bad form, which must fail.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  qins validate
  qins validate --model DIR --scheme q8,q6,q4 --targets all
  qins validate --model DIR --candidate DIR-q8 --candidate Q8_0@8.5 --preset quick
  qins validate --kv q8,q4
  qins validate --preset report        # the source report's run, on microsoft/Phi-3.5-mini-instruct
  qins validate --model DIR --scheme q4 --baseline plain.safetensors   # made once, then read")]
pub(crate) struct Validate {
    #[command(flatten)]
    model: ModelArgs,
    /// Judge these forms, separated by commas: none, f32, lossless, q8g, q8, q6, q5, q4, q3 or rate [default: f32,q8]
    #[arg(long, value_delimiter = ',', value_name = "SCHEMES")]
    scheme: Vec<SchemeOrNone>,
    /// Judge a checkpoint that rests encoded, or look at a plain one with other weights, which may stand for a format of so
    /// many bits per weight; may be given several times
    #[arg(long = "candidate", value_name = "DIR[@BITS]")]
    candidates: Vec<OtherCheckpoint>,
    /// Judge plain weights with keys and values in these forms, separated by commas: f16, bf16, q8 or q4
    #[arg(long, value_delimiter = ',', value_name = "FORMS")]
    kv: Vec<KvScheme>,
    #[command(flatten)]
    encode: EncodeArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    asked: Asked,
    #[command(flatten)]
    report: ReportArgs,
}

/// What is asked of the models.
#[derive(Debug, Args)]
pub(crate) struct Asked {
    /// How much is asked [default: quick for the embedded model, standard for others]
    #[arg(long, value_name = "PRESET")]
    preset: Option<Preset>,
    /// A file with one JSON object a line: {"id", one of "prompt", "messages" and "input_ids", "max_new_tokens"}, and
    /// "expected_ids" where every judged form must begin with those
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// A text whose tokens are to be predicted, instead of the standard one
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Predict at the end of so many tokens of the text, several lengths separated by commas
    #[arg(long, value_delimiter = ',', value_name = "TOKENS", value_parser = parse_context)]
    contexts: Vec<usize>,
    /// Tokens to generate at most, where a prompt does not say
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,
    /// Draw texts at this temperature too, with the same random numbers for every form; 0 for none
    #[arg(long, value_name = "T", value_parser = parse_temperature, allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// What random numbers are made from
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Where the plain model's run is kept: read if it is there, else written
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,
}

/// Where the report goes.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Where to write the report as JSON; beside it go a page (.html) and a summary (.md)
    #[arg(long, default_value = "report.json", value_name = "FILE")]
    report: PathBuf,
    /// Print the report as JSON instead of text
    #[arg(long)]
    json: bool,
}

impl Asked {
    /// The model, unless it is named: of the source report's run its own, elsewhere the embedded one.
    pub(crate) fn model(&self, mut named: ModelArgs) -> ModelArgs {
        if named.model.is_none() && self.preset == Some(Preset::Report) {
            named.model = Some(REPORT_MODEL.into());
        }
        named
    }

    fn preset(&self, model: &ModelArgs) -> Preset {
        self.preset.unwrap_or(if model.model.is_some() { Preset::Standard } else { Preset::Quick })
    }

    /// The evaluation set, and the bars of the preset.
    pub(crate) fn eval_set<'a>(
        &self,
        model: &ModelArgs,
        source: &ModelSource,
        reader: &'a TextReader,
        split: Split,
    ) -> Result<(EvalSet<'a>, Judge), Box<dyn Error>> {
        let embedded = model.model.is_none();
        let mut plan = self.preset(model).plan(embedded);
        if !self.contexts.is_empty() {
            plan.contexts.clone_from(&self.contexts);
        }
        plan.max_new_tokens = self.max_new_tokens.unwrap_or(plan.max_new_tokens);
        plan.temperature = self.temperature.or(plan.temperature).filter(|t| *t > 0.0);
        let config = ModelConfig::of(&source.checkpoint)?;
        let stops = stop_ids(source.checkpoint.files(), &config)?;
        let own_prompts = own_prompts(source).filter(|_| self.preset(model) == Preset::Quick);
        let inputs = EvalInputs { prompts: self.prompts.as_deref(), text: self.text.as_deref(), own_prompts, split };
        let mut eval_set = EvalSet::new(&plan, inputs, reader, &config, stops, &Bars::default())?;
        eval_set.seed = self.seed;
        Ok((eval_set, plan.judge))
    }

    /// Refuses what cannot be written, before the work.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.baseline.iter().try_for_each(|file| expect_writable(file))
    }

    pub(crate) fn preset_name(&self, model: &ModelArgs) -> &'static str {
        self.preset(model).name()
    }
}

impl ReportArgs {
    /// Refuses what cannot be written, before the work.
    pub(crate) fn check(&self) -> Result<(), String> {
        if [self.beside("html"), self.beside("md")].contains(&self.report) {
            let name = self.report.display();
            return Err(format!("{name}: expected a name for the JSON, found that of what lies beside it"));
        }
        [self.report.clone(), self.beside("html"), self.beside("md")].iter().try_for_each(|file| expect_writable(file))
    }

    fn beside(&self, extension: &str) -> PathBuf {
        self.report.with_extension(extension)
    }

    pub(crate) fn write(&self, report: &Report) -> Outcome {
        let json = serde_json::to_string_pretty(report)?;
        let write =
            |file: &Path, content: &str| write_whole(file, content).map_err(|e| format!("{}: {e}", file.display()));
        write(&self.report, &json)?;
        write(&self.beside("html"), &page(report))?;
        write(&self.beside("md"), &summary(report))?;
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{json}")?;
        } else {
            let [json, page, summary] = [self.report.clone(), self.beside("html"), self.beside("md")];
            let names = [page, json, summary].map(|file| file.display().to_string()).join(", ");
            writeln!(out, "{}report     {names}", Terminal(report))?;
        }
        Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

impl Validate {
    pub(crate) fn run(mut self) -> Outcome {
        self.model = self.asked.model(self.model);
        let recipes = self.recipes()?;
        let source = model::open(&self.model)?;
        let reader = TextReader::open(source.checkpoint.files())?;
        let (split, goal) = match self.encode.target {
            Some(Target::Words(goal)) => (Split::Confirmation, Some(goal)),
            Some(Target::Weights(_)) | None => (Split::Both, None),
        };
        let (eval_set, judge) = self.asked.eval_set(&self.model, &source, &reader, split)?;
        let judge = match goal {
            None => judge,
            Some(OutputGoal::Kl(kl)) => Judge::Kl(kl),
            Some(OutputGoal::Match(share)) => Judge::Match(share),
        };
        self.report.check()?;
        self.asked.check()?;
        let device = self.device.device()?;
        // Before the baseline's work: what cannot be judged is refused here.
        let variants = self.variants(recipes, judge, &source, &Engine::on(&device))?;
        let evaluation = Evaluation {
            source: &source,
            loader: &Loader(device),
            eval_set: &eval_set,
            preset: self.asked.preset_name(&self.model),
            backend: self.device.backend.to_string(),
            environment: &|| environment(&self.device),
            kept: self.asked.baseline.as_deref(),
            progress: &Bars::default(),
        };
        let plain = plain_controls().into_iter().chain(kv_variants(&self.kv)).collect();
        let report = evaluation.run(plain, |_, _| Ok(Vec::new()), variants)?;
        self.report.write(&report)
    }

    /// How each form that was asked for is encoded.
    fn recipes(&self) -> Result<Vec<Recipe>, String> {
        let asked: Vec<Option<Scheme>> = match (&self.scheme[..], self.encode.target) {
            ([], Some(_)) => vec![None],
            ([], None) if self.candidates.is_empty() && self.kv.is_empty() => {
                vec![Some(Scheme::CompandedF32), Some(Scheme::Q8)]
            }
            (schemes, _) => schemes.iter().map(|scheme| scheme.scheme()).collect(),
        };
        asked.into_iter().filter_map(|scheme| self.encode.recipe(scheme).transpose()).collect()
    }

    /// What is compared: the forms asked for, and those that show what a comparison is worth.
    fn variants(
        &self,
        recipes: Vec<Recipe>,
        judge: Judge,
        source: &ModelSource,
        engine: &Engine<'_>,
    ) -> Result<Vec<Variant>, Box<dyn Error>> {
        let mut variants = Vec::new();
        for recipe in recipes {
            let settings = self.encode.settings(&recipe);
            let weights = Weights::Encoded(policy(&self.encode, recipe, source, engine)?);
            variants.push(Variant::new(Role::Judged, settings, weights, judge));
        }
        for OtherCheckpoint { dir, bits } in &self.candidates {
            let other = model::open_named(dir)?;
            expect_same_shape(source, &other)?;
            let settings = Settings {
                scheme: "checkpoint".to_owned(),
                checkpoint: Some(dir.display().to_string()),
                stands_for_bits: *bits,
                ..Settings::default()
            };
            // Of plain weights nobody knows how many bits they would take.
            let role = if other.checkpoint.quantization().is_some() { Role::Judged } else { Role::Information };
            variants.push(Variant::new(role, settings, Weights::Other(other), judge));
        }
        variants.extend(encoded_controls(&self.encode.targets, judge)?);
        Ok(variants)
    }
}

/// Refuses another model: of one vocabulary and shape, it may still be another, and that is for the figures to show.
fn expect_same_shape(source: &ModelSource, other: &ModelSource) -> Result<(), Box<dyn Error>> {
    let config = |source: &ModelSource| ModelConfig::of(&source.checkpoint);
    let (expected, found) = (config(source)?, config(other)?);
    let shape = |c: &ModelConfig| [c.vocab_size, c.hidden_size, c.num_hidden_layers, c.intermediate_size];
    if shape(&expected) != shape(&found) {
        let names = "vocabulary, hidden size, blocks and MLP";
        let (expected, found) = (shape(&expected), shape(&found));
        return Err(format!("{}: expected {names} of {expected:?}, found {found:?}", other.name).into());
    }
    Ok(())
}

fn parse_context(text: &str) -> Result<usize, String> {
    let tokens: usize = text.parse().map_err(|e: std::num::ParseIntError| e.to_string())?;
    if tokens > AFTER_CONTEXT {
        Ok(tokens)
    } else {
        Err(format!("expected more than the {AFTER_CONTEXT} tokens that are predicted, found {tokens}"))
    }
}
