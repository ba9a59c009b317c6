//! `qins validate`.

use std::error::Error;

use clap::Args;
use qins_eval::{
    Evaluation, Preset, Split, Variant, Weights, encoded_controls, kv_control, kv_variants, plain_controls,
    report::{Computation, Role, Settings, Thresholds},
};
use qins_model::{ModelConfig, ModelSource, OutputGoal, TextReader};
use qins_quant::{
    Recipe, Scheme,
    kv::{KvForm, KvScheme},
};

use crate::{
    Outcome,
    args::{DeviceArgs, EncodeArgs, EvalArgs, ModelArgs, OtherCheckpoint, ReportArgs, SchemeOrNone, Target},
    environment::environment,
    interrupt,
    load::Loader,
    model,
    output::Outputs,
    policy::{ByDefault, Engine, is_measured, policy},
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
    /// one (on the hub OWNER/NAME@REVISION@BITS) is listed with the bits per weight of the format whose values it holds. One whose schemes `convert --target` chose by
    /// prompts is judged on others, and by a goal of kl or match. May be repeated
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

/// A candidate's checkpoint, and the goal that its schemes were chosen for by prompts, if they were.
struct Other {
    source: ModelSource,
    goal: Option<Target>,
}

/// What is printed on the first signal.
pub(crate) const INTERRUPTED: &str =
    "interrupted: what has been measured is written as soon as the current step ends; a second time ends it at once";

impl Validate {
    pub(crate) fn run(mut self) -> Outcome {
        self.model = self.eval.model(self.model);
        if self.eval.preset(&self.model) == Preset::Cache && self.kv.is_empty() {
            let is_encoded = |scheme: &KvScheme| matches!(scheme.form(), KvForm::Coded(_));
            self.kv = KvScheme::ALL.into_iter().filter(is_encoded).collect();
        }
        let (recipes, plan) = (self.recipes()?, self.eval.plan(&self.model)?);
        let inputs = Outputs::default().reads("--calibrate", self.encode.calibrate.as_deref());
        let mut outputs = self.eval.files(inputs)?;
        let files = self.report.open(&mut outputs)?;
        let source = model::open(&self.model)?;
        outputs.expect_apart(&source)?;
        let reader = TextReader::open(source.checkpoint.files())?;
        let others = self.others(&source, &outputs)?;
        let is_chosen = recipes.iter().any(|recipe| is_measured(&self.encode, recipe));
        let split = match others.iter().any(|other| other.goal.is_some()) || is_chosen {
            true => Split::Confirmation,
            false => Split::All,
        };
        let eval_set = self.eval.eval_set(&plan, &self.model, &source, &reader, split)?;
        if eval_set.split == Split::Confirmation {
            let chosen =
                others.iter().filter_map(|Other { source, goal }| Some(format!("{} for {}", source.name, (*goal)?)));
            let target = self.encode.target.filter(|_| is_chosen).map(|target| target.to_string());
            let (chosen, left) = (chosen.chain(target).collect::<Vec<_>>().join(", "), eval_set.prompts.len());
            note(&format!(
                "chosen by odd-numbered prompts: {chosen}; every variant is judged on {left} even-numbered ones"
            ));
        }
        let device = self.device.device()?;
        // Before the baseline's work, so that invalid variants are reported first.
        let variants = self.variants(recipes, others, plan.thresholds, &source, &Engine::on(&device))?;
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
        if requested.is_empty() {
            self.encode.expect_none(!self.candidates.is_empty())?;
        }
        requested.into_iter().filter_map(|scheme| self.encode.recipe(scheme).transpose()).collect()
    }

    /// The candidates, of the model's shape, and the goals that their schemes were chosen for by prompts.
    fn others(&self, source: &ModelSource, outputs: &Outputs) -> Result<Vec<Other>, Box<dyn Error>> {
        let mut others = Vec::new();
        for OtherCheckpoint { dir, .. } in &self.candidates {
            let other = model::open_named(dir)?;
            outputs.expect_apart(&other)?;
            expect_same_shape(source, &other)?;
            let goal = other.checkpoint.quantization().and_then(|config| config.goal.as_deref());
            let goal = goal.map(|goal| goal.parse().map_err(|e| format!("{}: goal: {e}", other.name))).transpose()?;
            others.push(Other { source: other, goal });
        }
        Ok(others)
    }

    /// The variants to compare: those that were requested, and the encoded controls.
    fn variants(
        &self,
        recipes: Vec<Recipe>,
        others: Vec<Other>,
        thresholds: Thresholds,
        source: &ModelSource,
        engine: &Engine<'_>,
    ) -> Result<Vec<Variant>, Box<dyn Error>> {
        let mut variants = Vec::new();
        for recipe in recipes {
            let settings = self.encode.settings(&recipe);
            let weights = Weights::Encoded(policy(&self.encode, recipe, source, engine, ByDefault::Uncalibrated)?);
            let thresholds = thresholds_of(self.encode.target, thresholds);
            variants.push(Variant::new(Role::Judged, settings, weights, thresholds));
        }
        for (OtherCheckpoint { dir, bits }, Other { source: other, goal }) in self.candidates.iter().zip(others) {
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
                target: goal.map(|goal| goal.to_string()),
                ..Settings::default()
            };
            // The thresholds depend on bits per weight, which plain weights do not have.
            let role = if is_encoded { Role::Judged } else { Role::Information };
            let thresholds = thresholds_of(goal, thresholds);
            variants.push(Variant::new(role, settings, Weights::Checkpoint(other), thresholds));
        }
        if self.kv.is_empty() || !variants.is_empty() {
            variants.extend(encoded_controls(&self.encode.targets(), thresholds)?);
        }
        Ok(variants)
    }
}

/// A mixture that was chosen for an output is judged by it.
fn thresholds_of(goal: Option<Target>, others: Thresholds) -> Thresholds {
    match goal {
        Some(Target::Output(OutputGoal::Kl(kl))) => Thresholds::MaxKl(kl),
        Some(Target::Output(OutputGoal::Match(share))) => Thresholds::MinTop1Agreement(share),
        Some(Target::Weights(_)) | None => others,
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
