//! `qins chat`.

use std::{
    error::Error,
    io::{self, BufRead, IsTerminal, Write},
    ops::ControlFlow,
    process::ExitCode,
    time::Instant,
};

use clap::Args;
use indicatif::HumanBytes;
use qins_burn::{Generation, Generator, Loaded, Session, decoder::Decoder};
use qins_model::{Message, TextReader, Tokenizer, stop_ids};

use crate::{
    Outcome,
    args::{SampleArgs, VariantArgs},
    environment::peak_rss_bytes,
};

/// The default sampling temperature: some variety, few errors.
const TEMPERATURE: f32 = 0.7;

const HELP: &str = "/reset clears the conversation, /stats shows speed and memory, /exit ends";

/// Talk with a model at the terminal.
///
/// Each line of input is a turn, and the answer is printed as it is generated. `/reset` clears the conversation, `/stats` shows
/// tokens per second, memory and the remaining context, `/exit` or the end of the input ends it. The conversation is rendered
/// with the model's chat template, and the KV cache is kept between turns.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  qins chat
  qins chat --model DIR --scheme q4 --targets all --system \"You answer in one sentence.\"
  echo \"What is the capital of France?\" | qins chat --temperature 0")]
pub(crate) struct Chat {
    #[command(flatten)]
    variant: VariantArgs,
    #[command(flatten)]
    sample: SampleArgs,
    /// The system prompt
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Maximum number of tokens of an answer
    #[arg(long, default_value_t = 1024, value_name = "N")]
    max_new_tokens: usize,
}

/// A conversation so far.
struct Conversation<'a> {
    model: &'a Decoder,
    reader: &'a TextReader,
    tokenizer: &'a Tokenizer,
    generator: Generator,
    system: Option<Message>,
    messages: Vec<Message>,
    session: Session<'a>,
    /// Tokens of all answers.
    tokens: usize,
    seconds: f64,
}

impl Chat {
    pub(crate) fn run(self) -> Outcome {
        let (source, recipe) = self.variant.open()?;
        let reader = TextReader::open(source.checkpoint.files())?;
        let Some(tokenizer) = &reader.tokenizer else {
            return Err(format!("{}: expected a tokenizer.json, found none", source.name).into());
        };
        let Loaded { model, report } = self.variant.load(&source, recipe)?;
        let message = |role: &str, content: String| Message { role: role.to_owned(), content };
        let mut conversation = Conversation {
            model: &model,
            reader: &reader,
            tokenizer,
            generator: Generator {
                max_new_tokens: self.max_new_tokens,
                stop_ids: stop_ids(source.checkpoint.files(), model.config())?,
                sampler: self.sample.sampler(TEMPERATURE),
            },
            system: self.system.map(|text| message("system", text)),
            messages: Vec::new(),
            session: Session::new(&model, 0),
            tokens: 0,
            seconds: 0.0,
        };
        // A template that rejects a system message is reported before the first turn.
        conversation.ids("")?;
        let at_terminal = io::stdin().is_terminal();
        let ask = || if at_terminal { write!(io::stderr(), "> ") } else { Ok(()) };
        if at_terminal {
            writeln!(io::stderr(), "{}, {}. {HELP}", source.name, HumanBytes(report.weight_bytes() as u64))?;
        }
        ask()?;
        for line in io::stdin().lock().lines() {
            match line.map_err(|e| format!("standard input: {e}"))?.trim() {
                "" => {}
                "/exit" => break,
                "/reset" => conversation.reset(),
                "/stats" => conversation.stats(report.weight_bytes())?,
                text if text.starts_with('/') => writeln!(io::stderr(), "{HELP}")?,
                text => conversation.answer(text)?,
            }
            ask()?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Conversation<'_> {
    fn reset(&mut self) {
        self.messages.clear();
        self.session = Session::new(self.model, 0);
    }

    /// The token ids of the conversation with another turn of the user.
    fn ids(&self, text: &str) -> Result<Vec<u32>, qins_model::Error> {
        let turn = Message { role: "user".to_owned(), content: text.to_owned() };
        let messages: Vec<Message> = self.system.iter().chain(&self.messages).cloned().chain([turn]).collect();
        self.reader.encode_chat(&messages)
    }

    fn answer(&mut self, text: &str) -> Result<(), Box<dyn Error>> {
        let ids = self.ids(text)?;
        let limit = self.model.config().max_position_embeddings;
        if ids.len() >= limit {
            let message = format!(
                "expected a conversation shorter than the model's context of {limit} tokens, found {}: /reset clears it",
                ids.len()
            );
            return Ok(writeln!(io::stderr(), "{message}")?);
        }
        // The KV cache is reused, unless the template now renders earlier turns differently.
        let read = self.session.ids();
        if !ids.starts_with(read) || read.len() == ids.len() {
            self.session = Session::new(self.model, ids.len());
        }
        let new = &ids[self.session.ids().len()..];
        let mut out = io::stdout().lock();
        let (mut stream, mut answer) = (self.tokenizer.stream(&[], false)?, String::new());
        let mut failed: Result<(), Box<dyn Error>> = Ok(());
        let start = Instant::now();
        // Another seed for each turn, or the same question would get the same answer.
        let mut generator = self.generator.clone();
        generator.sampler.seed = generator.sampler.seed.wrapping_add(self.messages.len() as u64);
        let generation = generator.extend(&mut self.session, new, |step| {
            failed = stream.push(step.id).map_err(Into::into).and_then(|piece| {
                write!(out, "{piece}")?;
                answer += &piece;
                Ok(out.flush()?)
            });
            if failed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        let Generation { ids, .. } = generation?;
        failed?;
        let rest = stream.finish();
        answer += &rest;
        writeln!(out, "{rest}")?;
        self.tokens += ids.len();
        self.seconds += start.elapsed().as_secs_f64();
        for (role, content) in [("user", text.to_owned()), ("assistant", answer)] {
            self.messages.push(Message { role: role.to_owned(), content });
        }
        Ok(())
    }

    fn stats(&self, weights: usize) -> io::Result<()> {
        let (read, limit) = (self.session.ids().len(), self.model.config().max_position_embeddings);
        let speed = self.tokens as f64 / self.seconds.max(f64::MIN_POSITIVE);
        let cache = self.session.cache().bytes() as u64;
        let peak = peak_rss_bytes().map_or(String::new(), |peak| format!(", peak RSS {}", HumanBytes(peak)));
        writeln!(
            io::stderr(),
            "{} tokens generated, {speed:.1} tok/s; weights {}, KV cache {}{peak}; {read} tokens of context used, {} left",
            self.tokens,
            HumanBytes(weights as u64),
            HumanBytes(cache),
            limit - read,
        )
    }
}
