//! Several texts at a time, whose tokens share each pass through the weights.

use std::{collections::VecDeque, iter::Enumerate, vec};

use burn::tensor::Tensor;

use super::{Generation, Generator, PREFILL_CHUNK, Session, Tokens};
use crate::{
    Error,
    decoder::{CausalLm, Input, Logits},
    device,
};

/// An iterator over continuations of prompts, each with the number of its prompt, in the order in which they end.
///
/// A pass reads every weight once for all of them. So many are continued at a time; when one ends, the next prompt is read beside the
/// tokens of the others. Each has a cache of its own, and none sees another; a linear that is encoded gives a token the same
/// bits in any company, plain ones round differently.
///
/// ```no_run
/// use qins_burn::{Backend, Checkpoint, Files, Generator, Together, load};
///
/// let checkpoint = Checkpoint::open(Files::Directory("SmolLM2-135M".into()))?;
/// let model = load(&checkpoint, None, &Backend::default().device()?, |_, _| {})?.model;
/// let prompts: [&[u32]; 2] = [&[1, 306, 471], &[1, 910, 338]];
/// for (prompt, text) in Together::new(&model, Generator::greedy(40, &[2]), &prompts, 16) {
///     println!("{prompt}: {:?}", text?.ids);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Together<'m> {
    model: &'m dyn CausalLm,
    generator: Generator,
    waiting: Enumerate<vec::IntoIter<Vec<u32>>>,
    running: Vec<Running<'m>>,
    ended: VecDeque<(usize, Result<Generation, Error>)>,
    at_once: usize,
}

#[derive(Debug)]
struct Running<'m> {
    prompt: usize,
    tokens: Tokens<'m, Session<'m>>,
    ids: Vec<u32>,
}

impl<'m> Together<'m> {
    /// Continues `prompts` by `generator`, at most `at_once` at a time, or 1.
    ///
    /// A prompt that the model cannot read, and a sampler with a setting out of its range, is an error of that text.
    pub fn new(model: &'m dyn CausalLm, generator: Generator, prompts: &[&[u32]], at_once: usize) -> Self {
        let waiting = prompts.iter().map(|prompt| prompt.to_vec()).collect::<Vec<_>>().into_iter().enumerate();
        Self { model, generator, waiting, running: Vec::new(), ended: VecDeque::new(), at_once: at_once.max(1) }
    }

    /// The continuation of a prompt, of which nothing is read yet.
    fn start(&self, prompt: usize, ids: &[u32]) -> Result<Running<'m>, Error> {
        let Generator { max_new_tokens, ref stop_ids, sampler } = self.generator;
        let session = Session::new(self.model, ids.len() + max_new_tokens.min(1024));
        let tokens = Tokens::new(session, ids, max_new_tokens, stop_ids.clone(), sampler)?;
        Ok(Running { prompt, tokens, ids: Vec::new() })
    }

    /// Moves texts from `running` that have ended to `ended`, and begins others in their place.
    fn exchange(&mut self) {
        loop {
            let texts = self.running.extract_if(.., |text| text.tokens.is_ended());
            let ended = texts.map(|text| (text.prompt, Ok(Generation { ids: text.ids, stop: text.tokens.stop })));
            self.ended.extend(ended);
            if self.running.len() == self.at_once {
                return;
            }
            let Some((prompt, ids)) = self.waiting.next() else { return };
            match self.start(prompt, &ids) {
                Ok(text) => self.running.push(text),
                Err(error) => self.ended.push_back((prompt, Err(error))),
            }
        }
    }

    /// A token more of each text. Where the device fails, all end, with an error of the first.
    fn step(&mut self) {
        let mut texts = std::mem::take(&mut self.running);
        let all_logits = match read_each(&mut texts) {
            Ok(all_logits) => all_logits,
            Err(error) => {
                self.waiting.by_ref().for_each(drop);
                return self.ended.extend(texts.first().map(|text| (text.prompt, Err(error))));
            }
        };
        for (mut text, logits) in texts.into_iter().zip(all_logits) {
            let logits = text.tokens.session.finite(logits);
            match text.tokens.choose(logits) {
                Ok(token) => {
                    text.ids.push(token.id);
                    self.running.push(text);
                }
                Err(error) => self.ended.push_back((text.prompt, Err(error))),
            }
        }
    }
}

impl Iterator for Together<'_> {
    type Item = (usize, Result<Generation, Error>);

    fn next(&mut self) -> Option<Self::Item> {
        while self.ended.is_empty() {
            self.exchange();
            if !self.running.is_empty() {
                self.step();
            } else if self.ended.is_empty() {
                return None;
            }
        }
        self.ended.pop_front()
    }
}

/// Reads the unread tokens of texts of one model; the logits after each.
fn read_each(texts: &mut [Running<'_>]) -> Result<Vec<Vec<f32>>, Error> {
    let take = |text: &mut Running<'_>| text.tokens.session.take(&text.tokens.unread);
    let mut unread: VecDeque<usize> = texts.iter_mut().map(take).collect();
    let mut all = Vec::new();
    while all.len() < texts.len() {
        // As many as fit into a pass, or one that is read in several.
        let mut tokens = 0;
        let fits = |n: &&usize| {
            tokens += **n;
            tokens <= PREFILL_CHUNK
        };
        let count = unread.iter().take_while(fits).count().max(1);
        let group = texts[all.len()..].iter_mut().map(|text| &mut text.tokens.session).zip(unread.drain(..count));
        let logits = device::read(pass(group.collect()))?;
        all.extend(logits.chunks_exact(logits.len() / count).map(<[f32]>::to_vec));
    }
    Ok(all)
}

/// Reads the last tokens of each sequence, so many; the logits after each, `[sequences, vocabulary]`.
fn pass(mut group: Vec<(&mut Session<'_>, usize)>) -> Tensor<2> {
    if let [(session, n)] = &mut group[..] {
        return session.forward(*n, Logits::Last);
    }
    let model = group[0].0.model;
    let mut inputs = Vec::new();
    for (Session { cache, regime, ids, .. }, n) in group {
        inputs.push(Input { ids: &ids[ids.len() - n..], regime: *regime, cache, logits: Logits::Last });
    }
    rayon::scope(|_| model.forward(&mut inputs))
}
