//! `qins generate`.

use std::{
    error::Error,
    io::{self, Write},
    ops::ControlFlow,
    path::PathBuf,
    process::ExitCode,
    time::Instant,
};

use clap::{Args, builder::NonEmptyStringValueParser};
use qins_burn::{Generation, Generator, Loaded, Stop};
use qins_eval::{Prompt, read_prompts};
use qins_model::{ModelConfig, TextReader, Tokenizer, stop_ids};
use serde_json::json;

use crate::{
    Outcome,
    answer::Answer,
    args::{SampleArgs, VariantArgs, prompt_file, prompt_text},
    environment::peak_rss_bytes,
};

/// Continue prompts, greedily or sampled at a temperature. The text is printed as it is generated.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  qins generate --prompt \"The capital of France is\"
  qins generate --prompt \"The capital of France is\" --scheme q8 --targets all
  qins generate --prompt \"The city of\" --temperature 0.8 --top-p 0.95 --seed 7
  qins generate --prompt-file letter.txt --stop \"Yours sincerely\"
  qins generate --model DIR --prompts prompts.jsonl --json")]
pub(crate) struct Generate {
    #[command(flatten)]
    variant: VariantArgs,
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    sample: SampleArgs,
    /// Maximum number of tokens to generate, unless a prompt sets its own
    #[arg(long, default_value_t = 64, value_name = "N")]
    max_new_tokens: usize,
    /// Do not stop at end-of-text tokens
    #[arg(long)]
    ignore_eos: bool,
    /// End a text before this string, which may stretch over several tokens; a special token, such as <|end|>, is one too. May be
    /// repeated
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    stop: Vec<String>,
    /// Print one JSON object per prompt (id, input_ids, generated_ids, text, text_with_special_tokens, stop), then a summary. `stop` is
    /// eos, length or string; a stop string ends `text`, the other fields have the tokens that spell it
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Input {
    /// The text to continue, `-` for standard input; special tokens may be written out
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// A file with the text to continue, `-` for standard input; a line break at its end is not part of the text
    #[arg(long, value_name = "FILE")]
    prompt_file: Option<PathBuf>,
    /// The token ids to continue, separated by commas
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    prompt_ids: Option<Vec<u32>>,
    /// A prompts file, `-` for standard input, one JSON object per line: {"id", one of "prompt", "messages" and "input_ids",
    /// "max_new_tokens"}. All are checked before the first is continued
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
}

impl Input {
    fn read(self, reader: &TextReader, config: &ModelConfig) -> Result<Vec<Prompt>, Box<dyn Error>> {
        let input_ids = match self {
            Self { prompts: Some(path), .. } => return Ok(read_prompts(&path, reader, config)?),
            Self { prompt: Some(text), .. } => reader.encode(&prompt_text(text)?)?,
            Self { prompt_file: Some(file), .. } => reader.encode(&prompt_file(&file)?)?,
            Self { prompt_ids: Some(ids), .. } => ids,
            _ => return Err("expected a prompt".into()),
        };
        let prompt = Prompt { id: "prompt".to_owned(), input_ids, max_new_tokens: None, expected_ids: None };
        prompt.check(config)?;
        Ok(vec![prompt])
    }
}

impl Generate {
    pub(crate) fn run(self) -> Outcome {
        let sampler = self.sample.sampler(0.0)?;
        let (source, recipe) = self.variant.open()?;
        let reader = TextReader::open(source.checkpoint.files())?;
        let config = ModelConfig::of(&source.checkpoint)?;
        let prompts = self.input.read(&reader, &config)?;
        let tokenizer = reader.tokenizer.as_ref();
        let mut stops = if self.ignore_eos { Vec::new() } else { stop_ids(source.checkpoint.files(), &config)? };
        let mut special_stops = Vec::new();
        if !self.stop.is_empty() {
            special_stops = special_tokens(reader.tokenizer()?, &self.stop)?;
            special_stops.retain(|id| !stops.contains(id));
            stops.extend(&special_stops);
        }
        let Loaded { model, report } = self.variant.load(&source, recipe)?;
        let mut out = io::stdout().lock();
        let (mut tokens, mut seconds) = (0, 0.0);
        for prompt in &prompts {
            let generator = Generator {
                max_new_tokens: prompt.max_new_tokens.unwrap_or(self.max_new_tokens),
                stop_ids: stops.clone(),
                sampler,
            };
            let stream = tokenizer.map(|t| t.stream(&prompt.input_ids, false)).transpose()?;
            // Printed with the first token, so that a rejected prompt is not echoed; an incomplete character at its end is completed first.
            let mut prefix = tokenizer.map_or(Ok(String::new()), |t| t.decode(&prompt.input_ids, true))?;
            let held = stream.as_ref().map_or("", |stream| stream.held());
            prefix.truncate(prefix.strip_suffix(held).unwrap_or(&prefix).len());
            let mut answer = stream.map(|stream| Answer::new(stream, &self.stop));
            let mut failed: Result<(), Box<dyn Error>> = Ok(());
            let start = Instant::now();
            let generation = generator.generate(&model, &prompt.input_ids, |step| {
                let Some(answer) = &mut answer else { return ControlFlow::Continue(()) };
                failed = answer.push(step.id).map_err(Into::into).and_then(|piece| {
                    if !self.json {
                        write!(out, "{}{piece}", std::mem::take(&mut prefix))?;
                        out.flush()?;
                    }
                    Ok(())
                });
                if failed.is_ok() && !answer.is_stopped { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            let Generation { ids, stop } = generation.map_err(|e| format!("prompt `{}`: {e}", prompt.id))?;
            failed?;
            seconds += start.elapsed().as_secs_f64();
            tokens += ids.len();
            let finished = answer.map(Answer::finish);
            if self.json {
                let stop = match (&finished, stop) {
                    (Some((.., true)), _) => json!("string"),
                    (_, Stop::Eos) if ids.last().is_some_and(|id| special_stops.contains(id)) => json!("string"),
                    (_, stop) => json!(stop),
                };
                let special = tokenizer.map(|t| t.continuation(&prompt.input_ids, &ids, true)).transpose()?;
                let line = json!({
                    "id": prompt.id, "input_ids": prompt.input_ids, "generated_ids": ids,
                    "text": finished.map(|(_, text, _)| text), "text_with_special_tokens": special, "stop": stop,
                });
                writeln!(out, "{line}")?;
            } else {
                let text = match finished {
                    Some((rest, ..)) => prefix + &rest,
                    None => format!("{:?} → {ids:?}", prompt.input_ids),
                };
                writeln!(out, "{text}")?;
            }
        }
        let speed = tokens as f64 / seconds.max(f64::MIN_POSITIVE);
        let (bytes, peak) = (report.weight_bytes(), peak_rss_bytes());
        if self.json {
            let summary = json!({
                "weight_bytes": bytes, "bits_per_weight": report.bits_per_weight(), "peak_rss_bytes": peak,
                "tokens_per_second": speed, "generated_tokens": tokens,
            });
            writeln!(out, "{summary}")?;
        } else {
            let memory = peak.map_or(String::new(), |p| format!(", peak RSS {}", indicatif::HumanBytes(p)));
            let weights = indicatif::HumanBytes(bytes as u64);
            writeln!(io::stderr(), "{tokens} tokens, {speed:.1} tok/s, weights {weights}{memory}")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The ids of those stop strings that are special tokens, which the text does not show.
fn special_tokens(tokenizer: &Tokenizer, strings: &[String]) -> Result<Vec<u32>, qins_model::Error> {
    let mut found = Vec::new();
    for string in strings {
        if let [id] = tokenizer.encode(string, false)?[..]
            && tokenizer.decode(&[id], false)?.is_empty()
        {
            found.push(id);
        }
    }
    Ok(found)
}
