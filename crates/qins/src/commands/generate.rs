//! `qins generate`.

use std::{
    error::Error,
    io::{self, Write},
    ops::ControlFlow,
    path::PathBuf,
    process::ExitCode,
    time::Instant,
};

use clap::Args;
use qins_burn::{Generation, Generator, Loaded};
use qins_eval::{Prompt, read_prompts};
use qins_model::{TextReader, stop_ids};
use serde_json::json;

use crate::{
    Outcome,
    args::{SampleArgs, VariantArgs},
    environment::peak_rss_bytes,
};

/// Continue prompts, greedily or sampled at a temperature. The text is printed as it is generated.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  qins generate --prompt \"The capital of France is\"
  qins generate --prompt \"The capital of France is\" --scheme q8 --targets all
  qins generate --prompt \"The city of\" --temperature 0.8 --top-p 0.95 --seed 7
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
    /// Print one JSON object per prompt (id, input_ids, generated_ids, text, text_with_special_tokens, stop), then a summary
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Input {
    /// The text to continue; special tokens may be written out
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// The token ids to continue, separated by commas
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    prompt_ids: Option<Vec<u32>>,
    /// A prompts file, one JSON object per line: {"id", one of "prompt", "messages" and "input_ids", "max_new_tokens"}
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
}

impl Input {
    fn read(self, reader: &TextReader) -> Result<Vec<Prompt>, Box<dyn Error>> {
        let one =
            |input_ids| vec![Prompt { id: "prompt".to_owned(), input_ids, max_new_tokens: None, expected_ids: None }];
        match self {
            Self { prompt: Some(text), .. } => Ok(one(reader.encode(&text)?)),
            Self { prompt_ids: Some(ids), .. } => Ok(one(ids)),
            Self { prompts: Some(path), .. } => Ok(read_prompts(&path, reader)?),
            _ => Err("expected a prompt".into()),
        }
    }
}

impl Generate {
    pub(crate) fn run(self) -> Outcome {
        let (source, recipe) = self.variant.open()?;
        let reader = TextReader::open(source.checkpoint.files())?;
        let prompts = self.input.read(&reader)?;
        let tokenizer = &reader.tokenizer;
        let Loaded { model, report } = self.variant.load(&source, recipe)?;
        let stops = if self.ignore_eos { Vec::new() } else { stop_ids(source.checkpoint.files(), model.config())? };
        let mut out = io::stdout().lock();
        let (mut tokens, mut seconds) = (0, 0.0);
        for prompt in &prompts {
            let generator = Generator {
                max_new_tokens: prompt.max_new_tokens.unwrap_or(self.max_new_tokens),
                stop_ids: stops.clone(),
                sampler: self.sample.sampler(0.0),
            };
            // With a tokenizer, text is streamed.
            let streamed = tokenizer.as_ref().filter(|_| !self.json);
            let mut stream = streamed.map(|t| t.stream(&prompt.input_ids, false)).transpose()?;
            // Printed with the first token, so that a rejected prompt is not echoed; an incomplete character at its end is completed first.
            let mut prefix = streamed.map_or(Ok(String::new()), |t| t.decode(&prompt.input_ids, true))?;
            let held = stream.as_ref().map_or("", |stream| stream.held());
            prefix.truncate(prefix.strip_suffix(held).unwrap_or(&prefix).len());
            let mut failed: Result<(), Box<dyn Error>> = Ok(());
            let start = Instant::now();
            let generation = generator.generate(&model, &prompt.input_ids, |step| {
                let Some(stream) = &mut stream else { return ControlFlow::Continue(()) };
                failed = stream.push(step.id).map_err(Into::into).and_then(|piece| {
                    write!(out, "{}{piece}", std::mem::take(&mut prefix))?;
                    Ok(out.flush()?)
                });
                if failed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            let Generation { ids, stop } = generation.map_err(|e| format!("prompt `{}`: {e}", prompt.id))?;
            failed?;
            seconds += start.elapsed().as_secs_f64();
            tokens += ids.len();
            if self.json {
                let text = tokenizer.as_ref().map(|t| t.continuation(&prompt.input_ids, &ids, false));
                let special = tokenizer.as_ref().map(|t| t.continuation(&prompt.input_ids, &ids, true));
                let (text, special) = (text.transpose()?, special.transpose()?);
                let line = json!({
                    "id": prompt.id, "input_ids": prompt.input_ids, "generated_ids": ids, "text": text,
                    "text_with_special_tokens": special, "stop": stop,
                });
                writeln!(out, "{line}")?;
            } else {
                let text = match stream {
                    Some(stream) => prefix + &stream.finish(),
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
