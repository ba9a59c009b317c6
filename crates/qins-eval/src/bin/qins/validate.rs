//! `qins validate`.

use std::{error::Error, io::Write, path::PathBuf, process::ExitCode};

use clap::Args;
use qins_burn::{Alpha, Device, EncodeOptions, Loaded, Policy, Recipe, Scheme, Tokenizer, stop_ids};
use qins_eval::report::{Model, REPORT_VERSION, Report, Role, Settings, Terminal};

use crate::{
    Outcome,
    args::{DeviceArgs, EncodeArgs, ModelArgs, SchemeOrNone},
    compare::{Comparison, Form},
    embedded,
    environment::environment,
    model::Source,
    output::{expect_writable, write_whole},
    policy::policy,
    prompts::{self, Prompt},
};

/// Compare encoded forms of a model with its plain weights, token against token.
///
/// Each form is compared with the plain model in FP32 arithmetic in two ways: free-running (both write on their own;
/// generated tokens are counted) and teacher-forced (both read the plain model's text; predictions are compared).
/// Without `--scheme` the forms `f32` and `q8` are judged. Beside them, in every run: the plain model against itself,
/// which must agree exactly; a deliberately bad form, which must fail; and 8 bits at the report's α = 1, to look at.
#[derive(Debug, Args)]
pub(crate) struct Validate {
    #[command(flatten)]
    model: ModelArgs,
    /// Judge only this form: none, f32, lossless, q8g, q8, q6, q5, q4, q3 or rate [default: f32 and q8]
    #[arg(long)]
    scheme: Option<SchemeOrNone>,
    #[command(flatten)]
    encode: EncodeArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// A file with one JSON object a line: {"id", "prompt" or "input_ids", "max_new_tokens"} [default: the embedded
    /// model's prompts]
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Tokens to generate at most, where a prompt does not say
    #[arg(long, default_value_t = 64, value_name = "N")]
    max_new_tokens: usize,
    /// Where to write the report
    #[arg(long, default_value = "report.json", value_name = "FILE")]
    report: PathBuf,
    /// Print the report as JSON instead of text
    #[arg(long)]
    json: bool,
}

impl Validate {
    pub(crate) fn run(self) -> Outcome {
        let recipes = self.recipes()?;
        let source = Source::open(&self.model)?;
        let tokenizer = source.tokenizer()?;
        let prompts = self.prompts(tokenizer.as_ref())?;
        if let Some(prompt) = prompts.iter().find(|p| p.max_new_tokens.unwrap_or(self.max_new_tokens) == 0) {
            let message = "expected max_new_tokens of at least 1, to have something to compare, found 0";
            return Err(format!("prompt `{}`: {message}", prompt.id).into());
        }
        expect_writable(&self.report)?;
        let device = self.device.device()?;
        // Before the baseline's work: what cannot be judged is refused here.
        let forms = self.forms(recipes, &source, &device)?;

        let Loaded { model, report: plain } = source.load(None, &device)?;
        if !plain.encoded.is_empty() {
            return Err(format!("{}: expected a plain model as the baseline, found an encoded one", source.name).into());
        }
        let comparison = Comparison {
            prompts: &prompts,
            max_new_tokens: self.max_new_tokens,
            stop_ids: stop_ids(source.files(), model.config())?,
            tokenizer: tokenizer.as_ref(),
        };
        let baseline = comparison.baseline(&model)?;
        let settings =
            Settings { scheme: "none".to_owned(), targets: self.encode.targets.to_string(), ..Settings::default() };
        let itself = Form { name: "plain again".to_owned(), role: Role::Judged, settings, policy: None };
        let mut candidates = vec![comparison.candidate(itself, Loaded { model, report: plain }, &baseline)?];
        for form in forms {
            let loaded = source.load(form.policy.as_ref(), &device)?;
            candidates.push(comparison.candidate(form, loaded, &baseline)?);
        }
        let checkpoint = &source.checkpoint;
        let report = Report {
            report_version: REPORT_VERSION,
            passed: candidates.iter().all(|candidate| candidate.passed),
            environment: environment(&self.device),
            model: Model {
                name: source.name.clone(),
                model_type: checkpoint.config()["model_type"].as_str().unwrap_or_default().to_owned(),
                parameters: checkpoint
                    .tensors()
                    .filter_map(|t| checkpoint.raw(t))
                    .map(|(_, shape, _)| shape.iter().product::<usize>() as u64)
                    .sum(),
                weight_bytes: checkpoint.tensor_bytes() as u64,
            },
            baseline: baseline.summary,
            candidates,
        };
        let json = serde_json::to_string_pretty(&report)?;
        write_whole(&self.report, &json).map_err(|e| format!("{}: {e}", self.report.display()))?;
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{json}")?;
        } else {
            writeln!(out, "{}report     {}", Terminal(&report), self.report.display())?;
        }
        Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }

    fn prompts(&self, tokenizer: Option<&Tokenizer>) -> Result<Vec<Prompt>, Box<dyn Error>> {
        match &self.prompts {
            Some(path) => prompts::read(path, tokenizer),
            None => {
                let files = embedded::files();
                let text = files.read(embedded::PROMPTS)?;
                let name = files.path(embedded::PROMPTS).display().to_string();
                prompts::parse(&String::from_utf8_lossy(&text), &name, tokenizer)
            }
        }
    }

    /// How each form that was asked for is encoded.
    fn recipes(&self) -> Result<Vec<Recipe>, String> {
        let asked: &[Option<Scheme>] = match (self.scheme, self.encode.target) {
            (Some(scheme), _) => &[scheme.scheme()],
            (None, Some(_)) => &[None],
            (None, None) => &[Some(Scheme::F32), Some(Scheme::Q8)],
        };
        asked.iter().filter_map(|scheme| self.encode.recipe(*scheme).transpose()).collect()
    }

    /// What is compared: the forms asked for, and those that show what a comparison is worth.
    fn forms(&self, recipes: Vec<Recipe>, source: &Source, device: &Device) -> Result<Vec<Form>, Box<dyn Error>> {
        let mut forms = Vec::new();
        for recipe in recipes {
            let settings = self.encode.settings(&recipe);
            let policy = Some(policy(&self.encode, recipe, source, device)?);
            forms.push(Form { name: settings.to_string(), role: Role::Judged, settings, policy });
        }
        let collapsed = Alpha::new(0.01).map_err(|e| e.to_string())?;
        for (role, alpha) in [(Role::Information, Alpha::ONE), (Role::Control, collapsed)] {
            let targets = self.encode.targets.clone();
            let settings = Settings {
                scheme: Scheme::Q8.to_string(),
                targets: targets.to_string(),
                alpha: Some(alpha.get()),
                ..Settings::default()
            };
            let options = EncodeOptions { alpha: Some(alpha), ..EncodeOptions::default() };
            let policy = Some(Policy::new(targets, Recipe { options, ..Scheme::Q8.into() }));
            forms.push(Form { name: settings.to_string(), role, settings, policy });
        }
        Ok(forms)
    }
}
