//! `qins validate`.

use std::{
    error::Error,
    fs,
    io::Write,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use clap::Args;
use qins_burn::{
    Alpha, Device, EncodeOptions, Greedy, Loaded, Scheme, Targets, Tokenizer, phi3::Phi3, score, stop_ids,
};
use qins_eval::{
    agreement,
    report::{
        self, Baseline, BaselineRun, Candidate, Model, REPORT_VERSION, Report, Role, Terminal, criteria, figures,
    },
    token_match::margin,
};

use crate::{
    Outcome,
    args::{DeviceArgs, EncodeArgs, ModelArgs, SchemeOrNone},
    embedded,
    environment::environment,
    model::{Source, progress},
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
    /// Judge only this form: none, f32 or q8 [default: f32 and q8]
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

/// The form a candidate takes.
struct Form {
    name: String,
    role: Role,
    scheme: Option<Scheme>,
    options: EncodeOptions,
}

impl Validate {
    pub(crate) fn run(self) -> Outcome {
        let source = Source::open(&self.model)?;
        let tokenizer = source.tokenizer()?;
        let prompts = self.prompts(tokenizer.as_ref())?;
        if let Some(prompt) = prompts.iter().find(|p| p.max_new_tokens.unwrap_or(self.max_new_tokens) == 0) {
            let message = "expected max_new_tokens of at least 1, to have something to compare, found 0";
            return Err(format!("prompt `{}`: {message}", prompt.id).into());
        }
        expect_writable(&self.report)?;
        let forms = self.forms()?;
        let device = self.device.device()?;

        let Loaded { model, report: plain } =
            source.load(None, &self.encode.targets, EncodeOptions::default(), &device)?;
        if !plain.encoded.is_empty() {
            return Err(format!("{}: expected a plain model as the baseline, found an encoded one", source.name).into());
        }
        let run = Run {
            source: &source,
            targets: &self.encode.targets,
            device: &device,
            stops: stop_ids(source.files(), model.config())?,
            max_new_tokens: self.max_new_tokens,
            prompts: &prompts,
        };
        let start = Instant::now();
        let texts = run.texts(&model, "plain")?;
        let seconds = start.elapsed().as_secs_f64();
        let references = run.references(&model, &texts)?;
        let itself = run.candidate(
            &Form {
                name: "plain again".to_owned(),
                role: Role::Judged,
                scheme: None,
                options: EncodeOptions::default(),
            },
            Loaded { model, report: plain.clone() },
            &texts,
            &references,
        )?;
        let mut candidates = vec![itself];
        for form in &forms {
            let loaded = source.load(form.scheme, &self.encode.targets, form.options, &device)?;
            candidates.push(run.candidate(form, loaded, &texts, &references)?);
        }

        let tokens = texts.iter().map(|text| text.generated_ids.len()).sum();
        let mut runs = texts;
        for text in &mut runs {
            text.text = tokenizer.as_ref().map(|t| t.decode(&text.generated_ids, true)).transpose()?;
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
            baseline: Baseline {
                prompts: runs.len(),
                generated_tokens: tokens,
                tokens_per_second: tokens as f64 / seconds.max(f64::MIN_POSITIVE),
                runs,
            },
            candidates,
        };
        let json = serde_json::to_string_pretty(&report)?;
        fs::write(&self.report, json.as_bytes()).map_err(|e| format!("{}: {e}", self.report.display()))?;
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

    /// What is compared: the forms asked for, and those that show what a comparison is worth.
    fn forms(&self) -> Result<Vec<Form>, Box<dyn Error>> {
        let form = |name: &str, role, scheme, alpha| Form {
            name: name.to_owned(),
            role,
            scheme: Some(scheme),
            options: EncodeOptions { alpha },
        };
        let named = |scheme: Scheme| match self.encode.alpha {
            Some(alpha) => format!("{scheme} α={}", alpha.get()),
            None => scheme.to_string(),
        };
        let judged: Vec<Scheme> = match self.scheme {
            None => Scheme::ALL.to_vec(),
            Some(SchemeOrNone::None) => Vec::new(),
            Some(SchemeOrNone::Scheme(scheme)) => vec![scheme],
        };
        let mut forms: Vec<Form> =
            judged.into_iter().map(|s| form(&named(s), Role::Judged, s, self.encode.alpha)).collect();
        let collapsed = Alpha::new(0.01).map_err(|e| e.to_string())?;
        forms.push(form("q8 α=1", Role::Information, Scheme::Q8, Some(Alpha::ONE)));
        forms.push(form("q8 α=0.01", Role::Control, Scheme::Q8, Some(collapsed)));
        Ok(forms)
    }
}

/// Refuses what can be no file, before the work whose result it is to hold.
fn expect_writable(file: &Path) -> Result<(), String> {
    let parent = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (file.is_dir(), parent.is_dir()) {
        (true, _) => Err(format!("{}: expected a file to write the report to, found a directory", file.display())),
        (_, false) => Err(format!("{}: expected a directory to write the report into, found none", file.display())),
        _ => Ok(()),
    }
}

/// One baseline, and everything compared with it.
struct Run<'a> {
    source: &'a Source,
    targets: &'a Targets,
    device: &'a Device,
    stops: Vec<u32>,
    max_new_tokens: usize,
    prompts: &'a [Prompt],
}

impl Run<'_> {
    /// What a model writes on its own.
    fn texts(&self, model: &Phi3, name: &str) -> Result<Vec<BaselineRun>, Box<dyn Error>> {
        let bar = progress(self.prompts.len() as u64, format!("generating {name}"));
        let texts = self.prompts.iter().map(|prompt| {
            let greedy = Greedy {
                max_new_tokens: prompt.max_new_tokens.unwrap_or(self.max_new_tokens),
                stop_ids: self.stops.clone(),
            };
            let mut margins = Vec::new();
            let generation = greedy.generate(model, &prompt.input_ids, |step| {
                margins.push(margin(step.logits));
                ControlFlow::Continue(())
            });
            bar.inc(1);
            Ok(BaselineRun {
                id: prompt.id.clone(),
                input_ids: prompt.input_ids.clone(),
                generated_ids: generation.map_err(|e| format!("prompt `{}`: {e}", prompt.id))?.ids,
                text: None,
                margins,
            })
        });
        let texts = texts.collect::<Result<_, Box<dyn Error>>>();
        bar.finish_and_clear();
        texts
    }

    /// The plain model's logits along its own texts, in `f32`: all that is kept of it while candidates run.
    fn references(&self, model: &Phi3, texts: &[BaselineRun]) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
        texts.iter().map(|text| Ok(score(model, &text.input_ids, &text.generated_ids)?)).collect()
    }

    fn candidate(
        &self,
        form: &Form,
        Loaded { model, report: weights }: Loaded,
        texts: &[BaselineRun],
        references: &[Vec<f32>],
    ) -> Result<Candidate, Box<dyn Error>> {
        let written = self.texts(&model, &form.name)?;
        let vocabulary = model.config().vocab_size;
        let bar = progress(texts.len() as u64, format!("scoring {}", form.name));
        let (mut results, mut positions) = (Vec::new(), Vec::new());
        for ((text, reference), own) in texts.iter().zip(references).zip(&written) {
            let logits = score(&model, &text.input_ids, &text.generated_ids)?;
            let compared = agreement::compare(reference, &logits, vocabulary);
            results.push(report::prompt_result(text, &own.generated_ids, &compared));
            positions.push(compared);
            bar.inc(1);
        }
        bar.finish_and_clear();
        let scheme = form.scheme.map_or("none".to_owned(), |s| s.to_string());
        let figures = figures(&results, &positions);
        let criteria = criteria(&scheme, &figures);
        let met = criteria.iter().all(|c| c.met);
        Ok(Candidate {
            name: form.name.clone(),
            role: form.role,
            scheme,
            targets: self.targets.to_string(),
            alpha: form.options.alpha.map(Alpha::get),
            weight_bytes: weights.weight_bytes() as u64,
            encoded_weights: weights.encoded_weights as u64,
            bits_per_weight: weights.bits_per_weight(),
            figures,
            criteria,
            passed: form.role.is_satisfied(met),
            prompts: results,
        })
    }
}
