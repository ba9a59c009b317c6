//! The evaluation set: prompts that every variant continues, and passages whose tokens it predicts.

use std::path::{Path, PathBuf};

use qins_model::{ModelConfig, Sampler, TextReader, Tokenizer};
use xxhash_rust::xxh3::Xxh3;

use crate::{
    Error, Progress,
    model::GenerateOptions,
    preset::{ContextPlan, GOLDEN, Plan},
    prompts::{Prompt, parse_prompts, read_prompts},
    report::Data,
    text_file::read_text,
};

/// The standard prompts, for any model: a name, and the content of a prompts file.
pub(crate) const PROMPTS: (&str, &str) = ("the standard prompts", include_str!("../assets/prompts.jsonl"));

/// The standard text, for any model: a name, and the text.
pub(crate) const TEXT: (&str, &str) = ("the standard text", include_str!("../assets/text.txt"));

/// Number of tokens that are scored at the end of a long context, unless its plan has another: a context of n tokens is read up to
/// n − 128, and its last 128 tokens are predicted.
pub const CONTEXT_TAIL_TOKENS: usize = 128;

/// A context, and the tokens after it that are predicted (teacher forcing).
#[derive(Clone, Debug)]
pub struct Passage {
    /// Token ids that are read first.
    pub context: Vec<u32>,
    /// Token ids after the context, each predicted from all before it.
    pub continuation: Vec<u32>,
}

/// The evaluation set: the same inputs for the baseline and every variant.
#[derive(Debug)]
pub struct EvalSet<'a> {
    /// Prompts to generate continuations of.
    pub prompts: Vec<Prompt>,
    /// Maximum number of tokens to generate, unless a prompt sets its own.
    pub max_new_tokens: usize,
    /// Token ids that end a text.
    pub stop_ids: Vec<u32>,
    /// Temperature at which texts are sampled, in addition to the greedy ones; `None` for greedy ones only.
    pub temperature: Option<f32>,
    /// Seed of the random numbers; prompt i is sampled with `seed + i`.
    pub seed: u64,
    /// Windows of the text, each scored in its second half.
    pub windows: Vec<Passage>,
    /// Passages at the end of long contexts, by the number of tokens read before the first scored one.
    pub contexts: Vec<(usize, Vec<Passage>)>,
    /// Decodes texts for the report, where there is one.
    pub tokenizer: Option<&'a Tokenizer>,
    /// Which of the standard or a model's own prompts these are.
    pub split: Split,
    prompts_name: String,
    text_name: String,
}

/// Where prompts and text come from; by default the standard ones, which are part of this crate.
#[derive(Clone, Copy, Debug, Default)]
pub struct EvalInputs<'a> {
    /// A prompts file: see [`read_prompts`].
    pub prompts: Option<&'a Path>,
    /// UTF-8 text files, used in place of the standard text.
    pub texts: &'a [PathBuf],
    /// Prompts in place of the standard ones: a name, and the content of a prompts file.
    pub own_prompts: Option<(&'a str, &'a str)>,
    /// Which prompts to use of those that are not read from a file.
    pub split: Split,
}

/// A split of the prompts, so that what was chosen on some prompts is confirmed on others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Split {
    /// All prompts.
    #[default]
    All,
    /// The odd-numbered prompts, counted from 0: for calibration and search.
    Calibration,
    /// The even-numbered prompts: to confirm a choice. With an even stride these are all.
    Confirmation,
}

impl<'a> EvalSet<'a> {
    /// Reads and tokenises the inputs that `plan` needs, for a model with this configuration and these stop ids. Windows and
    /// contexts are cut to the model's context length; what is left out is reported through `progress`.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Input`] when a file cannot be read or is invalid; [`Error::Prompt`] for a prompt with
    /// `max_new_tokens` of 0; [`Error::Settings`] when neither a prompt nor a passage is left.
    pub fn new(
        plan: &Plan,
        inputs: EvalInputs<'_>,
        reader: &'a TextReader,
        config: &ModelConfig,
        stop_ids: Vec<u32>,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let (prompts_name, all) = match inputs.prompts {
            Some(path) => (path.display().to_string(), read_prompts(path, reader, config)?),
            None if plan.prompt_stride.is_none() => ("none".to_owned(), Vec::new()),
            None => {
                let (name, text) = inputs.own_prompts.unwrap_or(PROMPTS);
                (name.to_owned(), parse_prompts(text, name, reader, config)?)
            }
        };
        // Those of a file are all used.
        let (split, stride) = match (inputs.prompts, plan.prompt_stride) {
            (Some(_), _) | (None, None) => (Split::All, 1),
            (None, Some(stride)) => (inputs.split, stride),
        };
        let even = if stride % 2 == 0 { stride } else { 2 * stride };
        let (first, step) = match split {
            Split::All => (0, stride),
            Split::Calibration => (1, even),
            Split::Confirmation => (0, even),
        };
        let mut prompts: Vec<Prompt> = all.into_iter().skip(first).step_by(step).collect();
        for prompt in prompts.iter_mut().filter(|prompt| plan.golden && prompt.input_ids == GOLDEN.0) {
            prompt.expected_ids = Some(GOLDEN.1.into());
        }
        if let Some(prompt) = prompts.iter().find(|p| p.max_new_tokens.unwrap_or(plan.max_new_tokens) == 0) {
            let message = "expected max_new_tokens of at least 1, found 0";
            return Err(Error::Prompt { id: prompt.id.clone(), source: message.into() });
        }
        let texts = match inputs.texts {
            [] => vec![(TEXT.0.to_owned(), TEXT.1.to_owned())],
            paths => paths.iter().map(|path| read_text(path)).collect::<Result<_, _>>()?,
        };
        let limit = config.max_position_embeddings;
        let (count, length) = (plan.windows.0, plan.windows.1.min(limit));
        let (mut by_text, mut notes) = (Vec::new(), Vec::new());
        let mut contexts: Vec<(usize, Vec<Passage>)> = Vec::new();
        for (name, text) in &texts {
            // Without a tokenizer the standard text is left out, but a text that was requested is an error.
            let (prefix, ids) = match &reader.tokenizer {
                None if inputs.texts.is_empty() => (&[][..], Vec::new()),
                _ => {
                    let tokenizer = reader.tokenizer().map_err(|e| Error::input(name, e))?;
                    (tokenizer.prefix(), tokenizer.encode(text, false).map_err(|e| Error::input(name, e))?)
                }
            };
            let of_text = self::windows(prefix, &ids, count, length);
            let longest = limit.min(ids.len() + prefix.len());
            let (fit, left_out): (Vec<&ContextPlan>, Vec<&ContextPlan>) =
                plan.contexts.iter().partition(|context| context.tokens <= longest);
            if !inputs.texts.is_empty() && count > 0 && of_text.is_empty() && fit.is_empty() {
                let expected = length - prefix.len().min(length);
                let found = ids.len();
                let message = format!("expected a text of {expected} tokens or more to score, found {found}");
                return Err(Error::input(name, message));
            }
            if !left_out.is_empty() {
                let lengths: Vec<usize> = left_out.iter().map(|context| context.tokens).collect();
                let found = ids.len();
                notes.push(format!(
                    "left out contexts of {lengths:?} tokens: the model's context length is {limit}, {name} has {found} tokens"
                ));
            }
            by_text.push((name, of_text, !fit.is_empty()));
            for context in fit {
                let read = context.tokens.saturating_sub(context.scored);
                let passages = passages(prefix, &ids, context, read);
                match contexts.iter_mut().find(|(tokens, _)| *tokens == read) {
                    Some((_, all)) => all.extend(passages),
                    None => contexts.push((read, passages)),
                }
            }
        }
        // The first of each text, then the second of each: all have their share.
        let (mut windows, mut shares) = (Vec::new(), vec![0; by_text.len()]);
        for place in 0..count {
            for ((_, of_text, _), share) in by_text.iter().zip(&mut shares) {
                if let Some(window) = of_text.get(place).filter(|_| windows.len() < count) {
                    windows.push(window.clone());
                    *share += 1;
                }
            }
        }
        let mut names: Vec<&str> = Vec::new();
        for ((name, of_text, has_contexts), share) in by_text.iter().zip(shares) {
            if share > 0 || *has_contexts || of_text.is_empty() {
                names.push(name);
            } else {
                notes.push(format!("left out {name}: {count} windows are those of other texts"));
            }
        }
        let note = (!notes.is_empty()).then(|| notes.join("; "));
        let eval_set = Self {
            prompts,
            max_new_tokens: plan.max_new_tokens,
            stop_ids,
            temperature: plan.temperature,
            seed: 0,
            windows,
            contexts,
            tokenizer: reader.tokenizer.as_ref(),
            split,
            prompts_name,
            text_name: names.join(", "),
        };
        if eval_set.prompts.is_empty() && eval_set.windows.is_empty() && eval_set.contexts.is_empty() {
            let why = note.unwrap_or("no prompts and no text".to_owned());
            return Err(Error::Settings(format!(
                "expected at least one prompt or passage to evaluate, found none: {why}"
            )));
        }
        if let Some(note) = note {
            progress.note(&note);
        }
        Ok(eval_set)
    }

    pub(crate) fn new_tokens(&self, prompt: &Prompt) -> usize {
        prompt.max_new_tokens.unwrap_or(self.max_new_tokens)
    }

    /// The text that a model wrote after a prompt, with special tokens, where there is a tokenizer.
    pub(crate) fn continuation(&self, prompt: &Prompt, ids: &[u32]) -> Result<Option<String>, Error> {
        Ok(self.tokenizer.map(|t| t.continuation(&prompt.input_ids, ids, true)).transpose()?)
    }

    /// How the `prompt`th prompt is continued: greedily, or at `temperature` with a seed of its own.
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
        let which = match self.split {
            Split::All => "",
            Split::Calibration => ", odd-numbered from 0",
            Split::Confirmation => ", even-numbered from 0",
        };
        Data { name: format!("{}{which}", self.prompts_name), count: self.prompts.len(), xxh3: hash(ids) }
    }

    /// The data of the passages; `None` when there are none.
    pub(crate) fn text_data(&self) -> Option<Data> {
        let all: Vec<&Passage> = self.windows.iter().chain(self.contexts.iter().flat_map(|(_, p)| p)).collect();
        let ids = all.iter().flat_map(|p| [(&p.context, 0), (&p.continuation, 0)]);
        (!all.is_empty()).then(|| Data { name: self.text_name.clone(), count: all.len(), xxh3: hash(ids) })
    }
}

/// A passage of `prefix` and some ids, of which those from `read` on are predicted.
fn passage(prefix: &[u32], ids: &[u32], read: usize) -> Passage {
    let mut context = [prefix, ids].concat();
    let continuation = context.split_off(read);
    Passage { context, continuation }
}

/// Windows of `length` tokens, each scored in its second half, as in llama.cpp's perplexity tool: each begins with the tokens that the
/// tokenizer puts before a text.
fn windows(prefix: &[u32], ids: &[u32], count: usize, length: usize) -> Vec<Passage> {
    let Some(own) = length.checked_sub(prefix.len()).filter(|own| *own > 0 && length >= 2) else { return Vec::new() };
    let passage = |window: &[u32]| passage(prefix, window, length / 2);
    ids.chunks_exact(own).take(count).map(passage).collect()
}

/// Passages of one length spread over a text, read up to `read`. Each begins with `prefix`.
fn passages(prefix: &[u32], ids: &[u32], context: &ContextPlan, read: usize) -> Vec<Passage> {
    let own = context.tokens.saturating_sub(prefix.len());
    let room = ids.len() - own;
    let count = context.passages.min(room + 1);
    let start = |i: usize| i * room / (count - 1).max(1);
    (0..count).map(|i| passage(prefix, &ids[start(i)..start(i) + own], read)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Preset;

    fn whole(passage: &Passage) -> Vec<u32> {
        [&passage.context[..], &passage.continuation].concat()
    }

    #[test]
    fn windows_begin_with_the_tokens_before_a_text() {
        let ids: Vec<u32> = (10..30).collect();
        let all = windows(&[1], &ids, 9, 8);
        assert_eq!(
            all.iter().map(whole).collect::<Vec<_>>(),
            [[1, 10, 11, 12, 13, 14, 15, 16], [1, 17, 18, 19, 20, 21, 22, 23]]
        );
        assert!(all.iter().all(|passage| passage.context.len() == 4));
        assert_eq!(windows(&[], &ids, 9, 8).iter().map(whole).collect::<Vec<_>>(), [&ids[..8], &ids[8..16]]);
        assert!(windows(&[1, 2], &ids, 9, 2).is_empty() && windows(&[], &ids, 9, 1).is_empty());
    }

    #[test]
    fn contexts_begin_with_the_tokens_before_a_text() {
        let ids: Vec<u32> = (1000..1300).collect();
        let all =
            |context: ContextPlan, read| passages(&[1], &ids, &context, read).iter().map(whole).collect::<Vec<_>>();
        let passage = |from: usize, n: usize| [&[1], &ids[from..from + n]].concat();
        assert_eq!(all(200.into(), 72), [passage(0, 199), passage(101, 199)]);
        // No two are the same, and one alone is the text's beginning.
        assert_eq!(all(301.into(), 173), [passage(0, 300)]);
        assert_eq!(all(ContextPlan { passages: 1, ..200.into() }, 72), [passage(0, 199)]);
        let four = all(Preset::Cache.context(224), 64);
        assert_eq!(four, [0, 25, 51, 77].map(|from| passage(from, 223)));
    }
}
