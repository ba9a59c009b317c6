//! The evaluation set: prompts that every model of a run continues, and passages of which it predicts each next token.

use std::{fs, path::Path};

use qins_model::{ModelConfig, Sampler, TextReader, Tokenizer};
use xxhash_rust::xxh3::Xxh3;

use crate::{
    Error, Progress,
    model::GenerateOptions,
    preset::{GOLDEN, Plan},
    prompts::{Prompt, parse_prompts, read_prompts},
    report::Data,
};

/// Prompts for any model: what to call them, and the content of their file.
const PROMPTS: (&str, &str) = ("the standard prompts", include_str!("../assets/prompts.jsonl"));

/// A text for any model.
const TEXT: (&str, &str) = ("the standard text", include_str!("../assets/text.txt"));

/// Tokens predicted at the end of a long context.
pub const AFTER_CONTEXT: usize = 128;
/// Passages of each length of context, where the text has as many.
const PASSAGES: usize = 2;

/// Tokens that are read, and those behind them that are predicted.
#[derive(Clone, Debug)]
pub struct Passage {
    /// The tokens that are read.
    pub context: Vec<u32>,
    /// The tokens that are predicted.
    pub continuation: Vec<u32>,
}

/// All that is asked of each model.
#[derive(Debug)]
pub struct EvalSet<'a> {
    /// To be continued.
    pub prompts: Vec<Prompt>,
    /// Tokens to generate at most, where a prompt does not say.
    pub max_new_tokens: usize,
    /// Tokens that end a text.
    pub stop_ids: Vec<u32>,
    /// Texts are drawn at this temperature too.
    pub temperature: Option<f32>,
    /// What random numbers are made from.
    pub seed: u64,
    /// Windows of the text, each predicted in its second split.
    pub windows: Vec<Passage>,
    /// Tokens read, and what follows them.
    pub contexts: Vec<(usize, Vec<Passage>)>,
    /// For texts in the report.
    pub tokenizer: Option<&'a Tokenizer>,
    prompts_name: String,
    text_name: String,
}

/// Where prompts and text come from; where nothing is said, the standard ones are taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct EvalInputs<'a> {
    /// A file of prompts.
    pub prompts: Option<&'a Path>,
    /// A file whose whole content is the text.
    pub text: Option<&'a Path>,
    /// Prompts in the place of the standard ones: what to call them, and the content of their file.
    pub own_prompts: Option<(&'a str, &'a str)>,
    /// Which of the prompts that are not read from a file.
    pub split: Split,
}

/// Prompts that a choice is made on must not be those it is confirmed with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Split {
    /// All of them.
    #[default]
    Both,
    /// Every other one, from the first on: to choose on.
    Calibration,
    /// The others: to confirm with.
    Confirmation,
}

impl<'a> EvalSet<'a> {
    /// What `plan` asks of a model with this configuration and these stop ids.
    ///
    /// # Errors
    /// When a file cannot be read or is none of prompts, or nothing is left to ask.
    pub fn new(
        plan: &Plan,
        inputs: EvalInputs<'_>,
        reader: &'a TextReader,
        config: &ModelConfig,
        stop_ids: Vec<u32>,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let (prompts_name, all) = match inputs.prompts {
            Some(path) => (path.display().to_string(), read_prompts(path, reader)?),
            None if plan.prompts_step.is_none() => ("nothing".to_owned(), Vec::new()),
            None => {
                let (name, text) = inputs.own_prompts.unwrap_or(PROMPTS);
                (name.to_owned(), parse_prompts(text, name, reader)?)
            }
        };
        let (first, step) = match (inputs.prompts, inputs.split) {
            (Some(_), _) => (0, 1),
            (None, Split::Both) => (0, plan.prompts_step.unwrap_or(1)),
            (None, Split::Calibration) => (0, 2),
            (None, Split::Confirmation) => (1, 2),
        };
        let mut prompts: Vec<Prompt> = all.into_iter().skip(first).step_by(step).collect();
        for prompt in prompts.iter_mut().filter(|prompt| plan.golden && prompt.input_ids == GOLDEN.0) {
            prompt.expected_ids = Some(GOLDEN.1.into());
        }
        if let Some(prompt) = prompts.iter().find(|p| p.max_new_tokens.unwrap_or(plan.max_new_tokens) == 0) {
            let message = "expected max_new_tokens of at least 1, to have something to compare, found 0";
            return Err(Error::Prompt { id: prompt.id.clone(), source: message.into() });
        }
        let (text_name, text) = match inputs.text {
            Some(path) => {
                let text = fs::read_to_string(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
                (path.display().to_string(), text)
            }
            None => (TEXT.0.to_owned(), TEXT.1.to_owned()),
        };
        // Without a tokenizer there is no text, but for one that was asked for.
        let ids = match &reader.tokenizer {
            None if inputs.text.is_none() => Vec::new(),
            _ => reader.encode(&text).map_err(|e| Error::input(&text_name, e))?,
        };
        let limit = config.max_position_embeddings;
        let (contexts, note) = contexts(&ids, &plan.contexts, limit);
        let eval_set = Self {
            prompts,
            max_new_tokens: plan.max_new_tokens,
            stop_ids,
            temperature: plan.temperature,
            seed: 0,
            windows: windows(&ids, plan.windows.0, plan.windows.1.min(limit)),
            contexts,
            tokenizer: reader.tokenizer.as_ref(),
            prompts_name,
            text_name,
        };
        if eval_set.prompts.is_empty() && eval_set.windows.is_empty() && eval_set.contexts.is_empty() {
            let why = note.unwrap_or("no prompt and no passage".to_owned());
            return Err(Error::Settings(format!("expected something to ask the model, found nothing: {why}")));
        }
        if let Some(note) = note {
            progress.note(&note);
        }
        Ok(eval_set)
    }

    pub(crate) fn new_tokens(&self, prompt: &Prompt) -> usize {
        prompt.max_new_tokens.unwrap_or(self.max_new_tokens)
    }

    /// How a prompt is continued greedily, or with random numbers of its own.
    pub(crate) fn options(&self, prompt: usize, temperature: Option<f32>) -> GenerateOptions {
        let sampler = Sampler {
            temperature: temperature.unwrap_or(0.0),
            seed: self.seed.wrapping_add(prompt as u64),
            ..Sampler::default()
        };
        GenerateOptions {
            max_new_tokens: self.new_tokens(&self.prompts[prompt]),
            stop_ids: self.stop_ids.clone(),
            sampler,
        }
    }

    pub(crate) fn prompts_data(&self) -> Data {
        let ids = self.prompts.iter().map(|p| (&p.input_ids, self.new_tokens(p)));
        Data { name: self.prompts_name.clone(), count: self.prompts.len(), xxh3: hash(ids) }
    }

    /// The passages of the text, if there are any.
    pub(crate) fn text_data(&self) -> Option<Data> {
        let all: Vec<&Passage> = self.windows.iter().chain(self.contexts.iter().flat_map(|(_, p)| p)).collect();
        let ids = all.iter().flat_map(|p| [(&p.context, 0), (&p.continuation, 0)]);
        (!all.is_empty()).then(|| Data { name: self.text_name.clone(), count: all.len(), xxh3: hash(ids) })
    }
}

/// Pieces of `length` tokens, each predicted from its middle on, as llama.cpp's perplexity tool does.
fn windows(ids: &[u32], count: usize, length: usize) -> Vec<Passage> {
    if length < 2 {
        return Vec::new();
    }
    let passage = |window: &[u32]| {
        let (read, following) = window.split_at(length / 2);
        Passage { context: read.to_vec(), continuation: following.to_vec() }
    };
    ids.chunks_exact(length).take(count).map(passage).collect()
}

/// For each length the model and the text allow, passages spread over the text; and a note of those left out.
fn contexts(ids: &[u32], lengths: &[usize], limit: usize) -> (Vec<(usize, Vec<Passage>)>, Option<String>) {
    let longest = limit.min(ids.len());
    let (fit, left_out): (Vec<usize>, Vec<usize>) = lengths.iter().partition(|&&length| length <= longest);
    let note = (!left_out.is_empty()).then(|| {
        format!("left out contexts of {left_out:?} tokens: the model reads {limit}, the text has {}", ids.len())
    });
    let passages = |length: usize| {
        let room = ids.len() - length;
        let starts = (0..PASSAGES.min(room + 1)).map(move |i| i * room / (PASSAGES - 1).max(1));
        let passage = |start: usize| {
            let (read, following) = ids[start..start + length].split_at(length - AFTER_CONTEXT);
            Passage { context: read.to_vec(), continuation: following.to_vec() }
        };
        (length - AFTER_CONTEXT, starts.map(passage).collect())
    };
    (fit.into_iter().map(passages).collect(), note)
}

fn hash<'a>(ids: impl Iterator<Item = (&'a Vec<u32>, usize)>) -> String {
    let mut hash = Xxh3::new();
    for (ids, n) in ids {
        hash.update(&(ids.len() as u64).to_le_bytes());
        ids.iter().for_each(|id| hash.update(&id.to_le_bytes()));
        hash.update(&(n as u64).to_le_bytes());
    }
    format!("{:016x}", hash.digest())
}
