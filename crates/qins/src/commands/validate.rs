//! `qins validate`.

use std::{error::Error, io::Write, path::PathBuf, process::ExitCode};

use clap::Args;
use qins_eval::{
    CONTEXT_TAIL_TOKENS, EvalInputs, EvalSet, Evaluation, Preset, REPORT_MODEL, Split, Variant, Weights,
    encoded_controls, kv_control, kv_variants, plain_controls,
    report::{Computation, Report, Role, Settings, Terminal, Thresholds, page, summary},
};
use qins_model::{ModelConfig, ModelSource, OutputGoal, TextReader, stop_ids};
use qins_quant::{
    Recipe, Scheme,
    kv::{KvForm, KvScheme},
    output::Output,
};

use crate::{
    Outcome,
    args::{DeviceArgs, EncodeArgs, ModelArgs, OtherCheckpoint, SchemeOrNone, Target, parse_temperature},
    environment::environment,
    interrupt,
    load::{Loader, own_prompts},
    model,
    output::{Outputs, is_stdout},
    policy::{ByDefault, Engine, policy},
    progress::note,
    stages::Bars,
};

/// Compare encoded variants of a model with its plain weights, token by token.
///
/// Each variant is compared with the baseline, the plain model in FP32 arithmetic, in two ways: free-running (both generate
/// from the same prompts, and the texts are compared) and teacher-forced (both read the same tokens, those of the baseline's
/// texts and of a fixed text, and their predictions are compared). By default the variants `companded-f32` and `q8` are
/// judged. Every run includes controls: the baseline repeated (A/A), which must agree exactly; with one thread, and in decode
/// order, token by token, which must agree up to rounding; bf16 arithmetic, for information; 8 bits at the fixed α = 1, for
/// information; and 8 bits with collapsed codes, which must fail.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  qins validate
  qins validate --model DIR --scheme q8,q6,q4 --targets all
  qins validate --model DIR --candidate DIR-q8 --candidate Q8_0@8.5 --preset quick
  qins validate --kv q8,q4
  qins validate --preset report        # the source report's validation, on microsoft/Phi-3.5-mini-instruct
  qins validate --model DIR --scheme q4 --baseline plain.safetensors   # computed once, then read")]
pub(crate) struct Validate {
    #[command(flatten)]
    model: ModelArgs,
    /// Judge the weights in these schemes, separated by commas: none, companded-f32, lossless, q8g, q8, q6, q5, q4, q3 or
    /// rate [default: companded-f32,q8]
    #[arg(long, value_delimiter = ',', value_name = "SCHEMES")]
    scheme: Vec<SchemeOrNone>,
    /// Judge another checkpoint of the same shape if it is encoded, or show its metrics if it is plain. With `@BITS`, a plain
    /// one is listed with the bits per weight of the format whose values it holds. May be repeated
    #[arg(long = "candidate", value_name = "DIR[@BITS]")]
    candidates: Vec<OtherCheckpoint>,
    /// Judge plain weights with the KV cache in these schemes, separated by commas: f16, bf16, q8, k5v5, k5v4, k4v4
    /// (also named q4) or k3v3 [default of the preset cache: all but the floats]
    #[arg(long, value_delimiter = ',', value_name = "SCHEMES")]
    kv: Vec<KvScheme>,
    #[command(flatten)]
    encode: EncodeArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    eval: EvalArgs,
    #[command(flatten)]
    report: ReportArgs,
}

/// The inputs of an evaluation.
#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// Size of the evaluation: quick, standard, report, long or cache [default: quick for the embedded model, standard for others]
    #[arg(long, value_name = "PRESET")]
    preset: Option<Preset>,
    /// A prompts file, `-` for standard input, one JSON object per line: {"id", one of "prompt", "messages" and "input_ids",
    /// "max_new_tokens"}, and optionally "expected_ids", which the greedy text of every judged variant must begin with
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
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

/// What is printed on the first signal.
pub(crate) const INTERRUPTED: &str =
    "interrupted: what has been measured is written as soon as the current step ends; a second time ends it at once";

/// The report's files.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Where to write the report as JSON; a page (.html) and a summary (.md) are written beside it, unless it is a device or a
    /// pipe; `-` prints the JSON and writes no file. When the run is interrupted, with what was measured until then
    #[arg(long, default_value = "report.json", value_name = "FILE")]
    report: PathBuf,
    /// Print the report as JSON instead of text
    #[arg(long)]
    json: bool,
}

/// The report's files, opened: the JSON, and the page and summary.
#[derive(Default)]
pub(crate) struct ReportFiles {
    json: Option<Output>,
    beside: Option<[Output; 2]>,
}

impl EvalArgs {
    /// The model of `--model`, or the preset's default: the source report's model for `report`, else the embedded one.
    pub(crate) fn model(&self, mut named: ModelArgs) -> ModelArgs {
        if named.model.is_none() && self.preset == Some(Preset::Report) {
            named.model = Some(REPORT_MODEL.into());
        }
        named
    }

    fn preset(&self, model: &ModelArgs) -> Preset {
        self.preset.unwrap_or(if model.model.is_some() { Preset::Standard } else { Preset::Quick })
    }

    /// The evaluation set, and the thresholds of the preset.
    pub(crate) fn eval_set<'a>(
        &self,
        model: &ModelArgs,
        source: &ModelSource,
        reader: &'a TextReader,
        split: Split,
    ) -> Result<(EvalSet<'a>, Thresholds), Box<dyn Error>> {
        let embedded = model.model.is_none();
        let mut plan = self.preset(model).plan(embedded);
        if !self.contexts.is_empty() {
            plan.contexts = self.contexts.iter().map(|tokens| self.preset(model).context(*tokens)).collect();
        }
        plan.max_new_tokens = self.max_new_tokens.unwrap_or(plan.max_new_tokens);
        plan.temperature = self.temperature.or(plan.temperature).filter(|t| *t > 0.0);
        if self.seed.is_some() && plan.temperature.is_none() {
            return Err("expected a --temperature above 0 with --seed, found none: all texts are greedy".into());
        }
        let config = ModelConfig::of(&source.checkpoint)?;
        let stops = stop_ids(source.checkpoint.files(), &config)?;
        let own_prompts = own_prompts(source).filter(|_| self.preset(model) == Preset::Quick);
        let inputs = EvalInputs { prompts: self.prompts.as_deref(), texts: &self.text, own_prompts, split };
        let mut eval_set = EvalSet::new(&plan, inputs, reader, &config, stops, &Bars::default())?;
        eval_set.seed = self.seed.unwrap_or(0);
        Ok((eval_set, plan.thresholds))
    }

    /// Adds the files that are read, and the baseline file: read if it exists, else written.
    pub(crate) fn files(&self, outputs: Outputs) -> Result<Outputs, Box<dyn Error>> {
        let outputs = outputs.reads("--prompts", self.prompts.as_deref());
        let outputs = self.text.iter().fold(outputs, |outputs, text| outputs.reads("--text", Some(text)));
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

impl ReportArgs {
    /// Opens the report's files, before the work. Beside a device or a pipe there is neither page nor summary.
    pub(crate) fn open(&self, outputs: &mut Outputs) -> Result<ReportFiles, Box<dyn Error>> {
        if is_stdout(&self.report) {
            return Ok(ReportFiles::default());
        }
        if [self.beside("html"), self.beside("md")].contains(&self.report) {
            let name = self.report.display();
            return Err(format!("{name}: expected a name for the JSON file, found that of the page or summary").into());
        }
        let json = outputs.open_report("--report", &self.report)?;
        let beside = match json.file() {
            Some(_) => {
                let mut open = |extension| outputs.open_report("--report", &self.beside(extension));
                Some([open("html")?, open("md")?])
            }
            None => None,
        };
        Ok(ReportFiles { json: Some(json), beside })
    }

    fn beside(&self, extension: &str) -> PathBuf {
        self.report.with_extension(extension)
    }

    /// Prints the report and writes its files. Each of these is tried, whether or not the others fail.
    pub(crate) fn write(&self, report: &Report, files: ReportFiles) -> Outcome {
        let json = serde_json::to_string_pretty(report)?;
        // Printed first: a file that cannot be written then costs nothing that was measured.
        let printed = self.print(report, &json);
        let (html, md) = files.beside.map(|[html, md]| ((html, page(report)), (md, summary(report)))).unzip();
        let files = [files.json.map(|output| (output, json)), html, md];
        let (mut names, written): (Vec<String>, Vec<_>) = files
            .into_iter()
            .flatten()
            .map(|(output, content)| (output.path().display().to_string(), output.write(content.as_bytes())))
            .unzip();
        names.sort();
        written.into_iter().collect::<Result<(), _>>()?;
        printed?;
        if !self.prints_json() {
            writeln!(std::io::stdout(), "report     {}", names.join(", "))?;
        }
        Ok(match report {
            Report { partial: true, .. } => interrupt::exit_code(),
            Report { passed: true, .. } => ExitCode::SUCCESS,
            Report { passed: false, .. } => ExitCode::from(1),
        })
    }

    fn prints_json(&self) -> bool {
        self.json || is_stdout(&self.report)
    }

    fn print(&self, report: &Report, json: &str) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.prints_json() { writeln!(out, "{json}") } else { write!(out, "{}", Terminal(report)) }?;
        out.flush()
    }
}

impl Validate {
    pub(crate) fn run(mut self) -> Outcome {
        self.model = self.eval.model(self.model);
        if self.eval.preset(&self.model) == Preset::Cache && self.kv.is_empty() {
            let is_encoded = |scheme: &KvScheme| matches!(scheme.form(), KvForm::Coded(_));
            self.kv = KvScheme::ALL.into_iter().filter(is_encoded).collect();
        }
        let recipes = self.recipes()?;
        let inputs = Outputs::default().reads("--calibrate", self.encode.calibrate.as_deref());
        let mut outputs = self.eval.files(inputs)?;
        let files = self.report.open(&mut outputs)?;
        let source = model::open(&self.model)?;
        outputs.expect_apart(&source)?;
        let reader = TextReader::open(source.checkpoint.files())?;
        let others = self.others(&source, &outputs)?;
        let is_calibrated = self.encode.calibrate.is_some() || self.encode.effort.is_some();
        let (mut split, goal) = match self.encode.target {
            Some(Target::Output(goal)) => (Split::Confirmation, Some(goal)),
            // Calibrated, it is chosen on prompts too.
            Some(Target::Weights(_)) if is_calibrated => (Split::Confirmation, None),
            Some(Target::Weights(_)) | None => (Split::All, None),
        };
        for other in others.iter().filter(|_| self.eval.prompts.is_none()) {
            if let Some(goal) = other.checkpoint.quantization().and_then(|config| config.goal.as_deref()) {
                split = Split::Confirmation;
                note(&format!("{} was chosen for {goal} by every other prompt: these are left out", other.name));
            }
        }
        let (eval_set, thresholds) = self.eval.eval_set(&self.model, &source, &reader, split)?;
        let thresholds = match goal {
            None => thresholds,
            Some(OutputGoal::Kl(kl)) => Thresholds::MaxKl(kl),
            Some(OutputGoal::Match(share)) => Thresholds::MinTop1Agreement(share),
        };
        let device = self.device.device()?;
        // Before the baseline's work, so that invalid variants are reported first.
        let variants = self.variants(recipes, others, thresholds, &source, &Engine::on(&device))?;
        let evaluation = Evaluation {
            source: &source,
            loader: &Loader(device),
            eval_set: &eval_set,
            preset: self.eval.preset_name(&self.model),
            backend: self.device.backend.to_string(),
            environment: &|| environment(&self.device),
            baseline_file: self.eval.baseline.as_deref(),
            progress: &Bars::default(),
        };
        let mut plain = plain_controls();
        if self.eval.preset(&self.model) == Preset::Cache {
            // The order of computation is not what this preset measures, and long contexts take minutes.
            plain.retain(|v| matches!(v.settings.computation, None | Some(Computation::Bf16)));
        }
        plain.extend(kv_variants(&self.kv));
        // A negative control of the kind that is judged.
        plain.extend((!self.kv.is_empty()).then(|| kv_control(&self.kv)));
        interrupt::install_saying(INTERRUPTED);
        let report = evaluation.run(plain, |_, _, _| Ok(()), variants)?;
        self.report.write(&report, files)
    }

    /// The recipe of each requested scheme.
    fn recipes(&self) -> Result<Vec<Recipe>, String> {
        let requested: Vec<Option<Scheme>> = match (&self.scheme[..], self.encode.target) {
            ([], Some(_)) => vec![None],
            ([], None) if self.candidates.is_empty() && self.kv.is_empty() => {
                vec![Some(Scheme::CompandedF32), Some(Scheme::Q8)]
            }
            (schemes, _) => schemes.iter().map(|scheme| scheme.scheme()).collect(),
        };
        requested.into_iter().filter_map(|scheme| self.encode.recipe(scheme).transpose()).collect()
    }

    /// The candidates, of the model's shape.
    fn others(&self, source: &ModelSource, outputs: &Outputs) -> Result<Vec<ModelSource>, Box<dyn Error>> {
        let mut others = Vec::new();
        for OtherCheckpoint { dir, .. } in &self.candidates {
            let other = model::open_named(dir)?;
            outputs.expect_apart(&other)?;
            expect_same_shape(source, &other)?;
            others.push(other);
        }
        Ok(others)
    }

    /// The variants to compare: those that were requested, and the encoded controls.
    fn variants(
        &self,
        recipes: Vec<Recipe>,
        others: Vec<ModelSource>,
        thresholds: Thresholds,
        source: &ModelSource,
        engine: &Engine<'_>,
    ) -> Result<Vec<Variant>, Box<dyn Error>> {
        let mut variants = Vec::new();
        for recipe in recipes {
            let settings = self.encode.settings(&recipe);
            let weights = Weights::Encoded(policy(&self.encode, recipe, source, engine, ByDefault::Uncalibrated)?);
            variants.push(Variant::new(Role::Judged, settings, weights, thresholds));
        }
        for (OtherCheckpoint { dir, bits }, other) in self.candidates.iter().zip(others) {
            let is_encoded = other.checkpoint.quantization().is_some();
            if let Some(bits) = bits.filter(|_| is_encoded) {
                let name = dir.display();
                return Err(format!(
                    "{name}@{bits}: expected bits for plain weights only, found encoded ones, which are measured"
                )
                .into());
            }
            let settings = Settings {
                scheme: "checkpoint".to_owned(),
                checkpoint: Some(dir.display().to_string()),
                nominal_bits_per_weight: *bits,
                ..Settings::default()
            };
            // The thresholds depend on bits per weight, which plain weights do not have.
            let role = if is_encoded { Role::Judged } else { Role::Information };
            variants.push(Variant::new(role, settings, Weights::Checkpoint(other), thresholds));
        }
        if self.kv.is_empty() || !variants.is_empty() {
            variants.extend(encoded_controls(&self.encode.targets, thresholds)?);
        }
        Ok(variants)
    }
}

/// Checks that another checkpoint has the model's shape. It may still be another model, which the metrics will show.
fn expect_same_shape(source: &ModelSource, other: &ModelSource) -> Result<(), Box<dyn Error>> {
    let config = |source: &ModelSource| ModelConfig::of(&source.checkpoint);
    let (expected, found) = (config(source)?, config(other)?);
    let shape = |c: &ModelConfig| [c.vocab_size, c.hidden_size, c.layers.len(), c.intermediate_size];
    if shape(&expected) != shape(&found) {
        let names = "vocabulary, hidden size, blocks and MLP";
        let (expected, found) = (shape(&expected), shape(&found));
        return Err(format!("{}: expected {names} of {expected:?}, found {found:?}", other.name).into());
    }
    Ok(())
}

fn parse_context(text: &str) -> Result<usize, String> {
    let tokens: usize = text.parse().map_err(|e: std::num::ParseIntError| e.to_string())?;
    if tokens > CONTEXT_TAIL_TOKENS {
        Ok(tokens)
    } else {
        Err(format!("expected more than the {CONTEXT_TAIL_TOKENS} tokens that are scored, found {tokens}"))
    }
}
