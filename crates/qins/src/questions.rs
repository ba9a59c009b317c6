//! What every model of a run is asked: prompts to continue, and passages to predict.

use std::{error::Error, fs, io::Write, path::Path};

use qins_burn::{Generator, Sampler, Tokenizer, phi3::ModelConfig};
use qins_eval::report::Data;
use xxhash_rust::xxh3::Xxh3;

use crate::{
    embedded,
    preset::{GOLDEN, Plan},
    prompts::{self, Prompt, Reader},
};

/// Tokens predicted at the end of a long context.
pub(crate) const AFTER_CONTEXT: usize = 128;
/// Passages of each length of context, where the text has as many.
const PASSAGES: usize = 2;

/// Tokens that are read, and those behind them that are predicted.
#[derive(Clone, Debug)]
pub(crate) struct Passage {
    pub(crate) read: Vec<u32>,
    pub(crate) following: Vec<u32>,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Questions<'a> {
    pub(crate) prompts: Vec<Prompt>,
    /// Where a prompt does not say.
    pub(crate) max_new_tokens: usize,
    pub(crate) stop_ids: Vec<u32>,
    pub(crate) temperature: Option<f32>,
    pub(crate) seed: u64,
    /// Windows of the text, each predicted in its second half.
    pub(crate) windows: Vec<Passage>,
    /// Tokens read, and what follows them.
    pub(crate) contexts: Vec<(usize, Vec<Passage>)>,
    pub(crate) tokenizer: Option<&'a Tokenizer>,
    prompts_name: String,
    text_name: String,
}

/// Where prompts and text are read from, if that is not what the program has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Files<'a> {
    pub(crate) prompts: Option<&'a Path>,
    pub(crate) text: Option<&'a Path>,
    /// Whether the embedded model is asked, which has prompts of its own.
    pub(crate) embedded: bool,
    /// Which of the program's prompts.
    pub(crate) half: Half,
}

/// Prompts that a choice is made on must not be those it is confirmed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    /// All of them.
    Both,
    /// Every other one, from the first on: to choose on.
    Calibration,
    /// The others: to confirm with.
    Confirmation,
}

impl<'a> Questions<'a> {
    pub(crate) fn new(
        plan: &Plan,
        files: Files<'_>,
        reader: &'a Reader,
        config: &ModelConfig,
        stop_ids: Vec<u32>,
    ) -> Result<Self, Box<dyn Error>> {
        let (prompts_name, all) = match files.prompts {
            Some(path) => (path.display().to_string(), prompts::read(path, reader)?),
            None if plan.prompts_step.is_none() => ("nothing".to_owned(), Vec::new()),
            None => {
                let (name, text) = if files.embedded { embedded::ATLAS_PROMPTS } else { embedded::PROMPTS };
                (name.to_owned(), prompts::parse(text, name, reader)?)
            }
        };
        let (first, step) = match (files.prompts, files.half) {
            (Some(_), _) => (0, 1),
            (None, Half::Both) => (0, plan.prompts_step.unwrap_or(1)),
            (None, Half::Calibration) => (0, 2),
            (None, Half::Confirmation) => (1, 2),
        };
        let mut prompts: Vec<Prompt> = all.into_iter().skip(first).step_by(step).collect();
        for prompt in prompts.iter_mut().filter(|prompt| plan.golden && prompt.input_ids == GOLDEN.0) {
            prompt.expected_ids = Some(GOLDEN.1.into());
        }
        if let Some(prompt) = prompts.iter().find(|p| p.max_new_tokens.unwrap_or(plan.max_new_tokens) == 0) {
            let message = "expected max_new_tokens of at least 1, to have something to compare, found 0";
            return Err(format!("prompt `{}`: {message}", prompt.id).into());
        }
        let (text_name, text) = match files.text {
            Some(path) => {
                let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
                (path.display().to_string(), text)
            }
            None => (embedded::TEXT.0.to_owned(), embedded::TEXT.1.to_owned()),
        };
        // Without a tokenizer there is no text, but for one that was asked for.
        let ids = match &reader.tokenizer {
            None if files.text.is_none() => Vec::new(),
            _ => reader.encode(&text).map_err(|e| format!("{text_name}: {e}"))?,
        };
        let limit = config.max_position_embeddings;
        let (contexts, note) = contexts(&ids, &plan.contexts, limit);
        let questions = Self {
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
        if questions.prompts.is_empty() && questions.windows.is_empty() && questions.contexts.is_empty() {
            let why = note.unwrap_or("no prompt and no passage".to_owned());
            return Err(format!("expected something to ask the model, found nothing: {why}").into());
        }
        if let Some(note) = note {
            writeln!(std::io::stderr(), "note: {note}")?;
        }
        Ok(questions)
    }

    pub(crate) fn new_tokens(&self, prompt: &Prompt) -> usize {
        prompt.max_new_tokens.unwrap_or(self.max_new_tokens)
    }

    /// How a prompt is continued greedily, or with random numbers of its own.
    pub(crate) fn generator(&self, prompt: usize, temperature: Option<f32>) -> Generator {
        let sampler = Sampler {
            temperature: temperature.unwrap_or(0.0),
            seed: self.seed.wrapping_add(prompt as u64),
            ..Sampler::default()
        };
        Generator { max_new_tokens: self.new_tokens(&self.prompts[prompt]), stop_ids: self.stop_ids.clone(), sampler }
    }

    pub(crate) fn prompts_data(&self) -> Data {
        let ids = self.prompts.iter().map(|p| (&p.input_ids, self.new_tokens(p)));
        Data { name: self.prompts_name.clone(), count: self.prompts.len(), xxh3: hash(ids) }
    }

    /// The passages of the text, if there are any.
    pub(crate) fn text_data(&self) -> Option<Data> {
        let all: Vec<&Passage> = self.windows.iter().chain(self.contexts.iter().flat_map(|(_, p)| p)).collect();
        let ids = all.iter().flat_map(|p| [(&p.read, 0), (&p.following, 0)]);
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
        Passage { read: read.to_vec(), following: following.to_vec() }
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
            Passage { read: read.to_vec(), following: following.to_vec() }
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
