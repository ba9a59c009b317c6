//! `qins chat`.

mod command;
mod conversation;
mod input;

use std::{
    error::Error,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use clap::Args;
use indicatif::HumanBytes;
use qins_burn::{Generator, Loaded};
use qins_eval::read_conversation;
use qins_model::{TextReader, stop_ids};
use serde_json::json;

use self::{
    command::{HELP, Line},
    conversation::{Conversation, Ending},
    input::{Input, Next},
};
use crate::{
    Outcome,
    args::{SampleArgs, VariantArgs},
    interrupt,
    output::{self, is_stdout},
    progress::note,
};

/// The default sampling temperature: some variety, few errors.
const TEMPERATURE: f32 = 0.7;

/// Talk with a model at the terminal.
///
/// At a terminal, lines are edited with the usual keys, arrows go back in what was typed before, a paste of several lines is one
/// message, and Ctrl-C stops an answer, which stays in the conversation as far as it came. Otherwise each line of standard input is a
/// message. The answer is printed as it is generated. `/help` lists the commands, among them `/save FILE`; `/exit` or the end of the
/// input (Ctrl-D) ends it. The conversation is rendered with the model's chat template, and the KV cache is kept between turns.
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
    /// Read special tokens that are written in messages, such as <|end|>, as control tokens; otherwise they are plain text
    #[arg(long)]
    allow_special_tokens: bool,
}

impl Chat {
    pub(crate) fn run(self) -> Outcome {
        let sampler = self.sample.sampler(TEMPERATURE)?;
        let (source, recipe) = self.variant.open()?;
        let reader = TextReader::open(source.checkpoint.files())?;
        let Some(tokenizer) = &reader.tokenizer else {
            return Err(format!("{}: expected a tokenizer.json, found none", source.name).into());
        };
        let Loaded { model, report } = self.variant.load(&source, recipe)?;
        let generator = Generator {
            max_new_tokens: self.max_new_tokens,
            stop_ids: stop_ids(source.checkpoint.files(), model.config())?,
            sampler,
        };
        let mut conversation = Conversation::new(&model, &reader, tokenizer, generator);
        conversation.allow_special_tokens = self.allow_special_tokens;
        if !reader.has_chat_template() {
            note(&format!(
                "{}: expected a chat template, found none: the conversation is a plain dialogue",
                source.name
            ));
        }
        // A template that rejects a system message is reported before the first turn.
        conversation.set_system(self.system)?;
        let mut input = Input::open()?;
        let mut unanswered = false;
        if input.is_terminal() {
            interrupt::install();
            let weights = HumanBytes(report.weight_bytes() as u64);
            say(format_args!("{}, {weights}. /help lists the commands, Ctrl-D or /exit ends", source.name))?;
        }
        loop {
            let line = match input.next()? {
                Next::End => return Ok(ending(&input, unanswered)),
                Next::Interrupted => {
                    say("Ctrl-D or /exit ends the conversation")?;
                    continue;
                }
                Next::Invalid(sentence) => {
                    unanswered = true;
                    say(sentence)?;
                    continue;
                }
                Next::Line(line) => line,
            };
            // A signal that came while nothing was answered stops nothing.
            let _ = interrupt::take();
            let result = match Line::parse(&line) {
                Line::Nothing => Ok(()),
                Line::Message(text) => answer(&mut conversation, &text).map(|is_answered| unanswered |= !is_answered),
                Line::Save(file) => save(&conversation, &file),
                Line::Load(file) => load(&mut conversation, &file),
                Line::System(text) => conversation.set_system(text).map_err(Into::into),
                Line::Reset => {
                    conversation.reset();
                    Ok(())
                }
                Line::Stats => say(conversation.stats(report.weight_bytes())),
                Line::Help => say(HELP),
                Line::Exit => return Ok(ending(&input, unanswered)),
                Line::Invalid(sentence) => {
                    unanswered = true;
                    say(sentence)
                }
            };
            match result {
                // At a terminal an error is not the end of what was said, unless nothing can be printed any more.
                Err(error) if input.is_terminal() && !error.is::<io::Error>() => say(format_args!("error: {error}"))?,
                result => result?,
            }
        }
    }
}

/// At a terminal the user has seen what was not answered; a script learns it from the exit code.
fn ending(input: &Input, unanswered: bool) -> ExitCode {
    if unanswered && !input.is_terminal() { ExitCode::from(2) } else { ExitCode::SUCCESS }
}

/// Answers a message; returns whether there is an answer, if only the beginning of one.
fn answer(conversation: &mut Conversation<'_>, text: &str) -> Result<bool, Box<dyn Error>> {
    match conversation.answer(text)? {
        Ending::Complete => Ok(true),
        ending => {
            say(&ending)?;
            Ok(!matches!(ending, Ending::TooLong { .. }))
        }
    }
}

fn save(conversation: &Conversation<'_>, file: &Path) -> Result<(), Box<dyn Error>> {
    let messages = conversation.messages();
    if messages.is_empty() {
        return say("expected something to save, found an empty conversation");
    }
    if file.is_file() && !is_stdout(file) {
        return Err(format!("{}: expected a new file, found one", file.display()).into());
    }
    output::open(file)?.write(format!("{}\n", json!({ "messages": messages })).as_bytes())?;
    say(format_args!("{}: {} messages", file.display(), messages.len()))
}

fn load(conversation: &mut Conversation<'_>, file: &Path) -> Result<(), Box<dyn Error>> {
    if file == Path::new("-") {
        return say("expected a file, found `-`: standard input is the conversation");
    }
    let messages = read_conversation(file)?;
    let count = messages.len();
    conversation.set_messages(messages)?;
    say(format_args!("{}: {count} messages", file.display()))
}

/// Prints a line to stderr.
fn say(text: impl std::fmt::Display) -> Result<(), Box<dyn Error>> {
    Ok(writeln!(io::stderr(), "{text}")?)
}
