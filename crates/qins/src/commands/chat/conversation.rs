//! A conversation: its messages, and the model that has read them.

use std::{
    error::Error,
    fmt,
    io::{self, Write},
    ops::ControlFlow,
    time::Instant,
};

use indicatif::HumanBytes;
use qins_burn::{
    Generation, Generator, Session, Stop,
    decoder::{CausalLm, Decoder, Logits},
};
use qins_model::{Message, TextReader, Tokenizer};

use crate::{answer::Answer, environment::peak_rss_bytes, interrupt};

/// Tokens of a long message that are read before a look at Ctrl-C.
const READ_AT_ONCE: usize = 256;

/// A conversation so far.
pub(super) struct Conversation<'a> {
    model: &'a Decoder,
    reader: &'a TextReader,
    tokenizer: &'a Tokenizer,
    generator: Generator,
    /// Whether special tokens written in a message become control tokens.
    pub(super) allow_special_tokens: bool,
    system: Option<Message>,
    messages: Vec<Message>,
    session: Session<'a>,
    /// Tokens of all answers.
    tokens: usize,
    seconds: f64,
}

/// How an answer ended, where a user should know.
pub(super) enum Ending {
    Complete,
    /// By Ctrl-C; what was said stays, and of nothing nothing.
    Stopped {
        is_kept: bool,
    },
    MaxNewTokens(usize),
    ContextFull(usize),
    /// The message was too long, and is not part of the conversation.
    TooLong {
        limit: usize,
        found: usize,
    },
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => Ok(()),
            Self::Stopped { is_kept: true } => f.write_str("stopped; the answer so far is part of the conversation"),
            Self::Stopped { is_kept: false } => {
                f.write_str("stopped before the first word; the message was taken back")
            }
            Self::MaxNewTokens(limit) => write!(f, "the answer was cut at --max-new-tokens {limit}"),
            Self::ContextFull(limit) => {
                write!(f, "the answer was cut, because the model's context of {limit} tokens is full: /reset clears it")
            }
            Self::TooLong { limit, found } => write!(
                f,
                "expected a conversation shorter than the model's context of {limit} tokens, found {found}: /reset clears it, \
                 /save FILE keeps it"
            ),
        }
    }
}

impl<'a> Conversation<'a> {
    pub(super) fn new(
        model: &'a Decoder,
        reader: &'a TextReader,
        tokenizer: &'a Tokenizer,
        generator: Generator,
    ) -> Self {
        let session = Session::new(model, 0);
        Self {
            model,
            reader,
            tokenizer,
            generator,
            allow_special_tokens: false,
            system: None,
            messages: Vec::new(),
            session,
            tokens: 0,
            seconds: 0.0,
        }
    }

    pub(super) fn reset(&mut self) {
        self.messages.clear();
        self.session = Session::new(self.model, 0);
    }

    /// Sets the system prompt, unless the model's template rejects it.
    pub(super) fn set_system(&mut self, text: Option<String>) -> Result<(), qins_model::Error> {
        let before = std::mem::replace(&mut self.system, text.map(|text| message("system", text)));
        self.ids("").map(drop).inspect_err(|_| self.system = before)
    }

    /// All messages, the system prompt first.
    pub(super) fn messages(&self) -> Vec<Message> {
        self.system.iter().chain(&self.messages).cloned().collect()
    }

    /// Goes on with other messages, unless the model's template rejects them.
    pub(super) fn set_messages(&mut self, mut messages: Vec<Message>) -> Result<(), qins_model::Error> {
        let system = (messages[..].first().is_some_and(|m| m.role == "system")).then(|| messages.remove(0));
        let before = (std::mem::replace(&mut self.system, system), std::mem::replace(&mut self.messages, messages));
        self.ids("").map(drop).inspect_err(|_| (self.system, self.messages) = before)
    }

    /// The token ids of the conversation with another turn of the user.
    fn ids(&self, text: &str) -> Result<Vec<u32>, qins_model::Error> {
        let mut messages = self.messages();
        messages.push(message("user", text.to_owned()));
        if self.allow_special_tokens {
            self.reader.encode_chat_with_special_tokens(&messages)
        } else {
            self.reader.encode_chat(&messages)
        }
    }

    /// Answers a message; after an error the conversation is as before.
    pub(super) fn answer(&mut self, text: &str) -> Result<Ending, Box<dyn Error>> {
        let ids = self.ids(text)?;
        let limit = self.model.config().max_position_embeddings;
        if ids.len() >= limit {
            return Ok(Ending::TooLong { limit, found: ids.len() });
        }
        // The KV cache is reused, unless the template now renders earlier turns differently.
        let read = self.session.ids();
        if !ids.starts_with(read) || read.len() == ids.len() {
            self.session = Session::new(self.model, ids.len());
        }
        let result = self.generate(text, &ids);
        if result.is_err() {
            self.session = Session::new(self.model, 0);
        }
        result
    }

    fn generate(&mut self, text: &str, ids: &[u32]) -> Result<Ending, Box<dyn Error>> {
        if self.read(ids)?.is_break() {
            return Ok(Ending::Stopped { is_kept: false });
        }
        let new = &ids[self.session.ids().len()..];
        let mut out = io::stdout().lock();
        let mut answer = Answer::new(self.tokenizer.stream(&[], false)?, &[]);
        let mut failed: Result<(), Box<dyn Error>> = Ok(());
        let mut is_stopped = false;
        let start = Instant::now();
        // Another seed for each turn, or the same question would get the same answer.
        let mut generator = self.generator.clone();
        generator.sampler.seed = generator.sampler.seed.wrapping_add(self.messages.len() as u64);
        let generation = generator.extend(&mut self.session, new, |step| {
            is_stopped = interrupt::take();
            if !is_stopped {
                failed = print(&mut out, answer.push(step.id));
            }
            if failed.is_ok() && !is_stopped { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        let Generation { ids, stop } = generation?;
        failed?;
        let (rest, answer, _) = answer.finish();
        writeln!(out, "{rest}")?;
        self.tokens += ids.len();
        self.seconds += start.elapsed().as_secs_f64();
        if is_stopped && answer.is_empty() {
            return Ok(Ending::Stopped { is_kept: false });
        }
        self.messages.extend([message("user", text.to_owned()), message("assistant", answer)]);
        let limit = self.model.config().max_position_embeddings;
        Ok(match stop {
            Stop::Caller => Ending::Stopped { is_kept: true },
            Stop::Length if self.session.ids().len() >= limit => Ending::ContextFull(limit),
            Stop::Length => Ending::MaxNewTokens(self.generator.max_new_tokens),
            Stop::Eos => Ending::Complete,
        })
    }

    /// Reads a long message up to its last part; `Break` is Ctrl-C.
    fn read(&mut self, ids: &[u32]) -> Result<ControlFlow<()>, qins_burn::Error> {
        loop {
            let read = self.session.ids().len();
            let next = read + READ_AT_ONCE;
            // Where the whole has other rotary frequencies than its beginning, that would be read twice.
            if next >= ids.len() || self.model.regime(next) != self.model.regime(ids.len()) {
                return Ok(ControlFlow::Continue(()));
            }
            self.session.extend(&ids[read..next], Logits::Last)?;
            if interrupt::take() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }

    pub(super) fn stats(&self, weights: usize) -> String {
        let (read, limit) = (self.session.ids().len(), self.model.config().max_position_embeddings);
        let speed = self.tokens as f64 / self.seconds.max(f64::MIN_POSITIVE);
        let peak = peak_rss_bytes().map_or(String::new(), |peak| format!(", peak RSS {}", HumanBytes(peak)));
        format!(
            "{} tokens generated, {speed:.1} tok/s; weights {}, KV cache {}{peak}; {read} tokens of context used, {} left",
            self.tokens,
            HumanBytes(weights as u64),
            HumanBytes(self.session.cache().bytes() as u64),
            limit - read,
        )
    }
}

fn message(role: &str, content: String) -> Message {
    Message { role: role.to_owned(), content }
}

fn print(out: &mut impl Write, piece: Result<String, qins_model::Error>) -> Result<(), Box<dyn Error>> {
    out.write_all(piece?.as_bytes())?;
    Ok(out.flush()?)
}
