//! Several texts at a time, whose tokens share each pass through the weights.

use std::{collections::VecDeque, iter::Enumerate};

use burn::tensor::Tensor;

use super::{Generator, PREFILL_CHUNK, Session, Token, Tokens};
use crate::{
    Error,
    awake::awake,
    decoder::{CausalLm, Input, Logits},
    device,
};

/// An iterator over the tokens after several prompts, each with the number of its prompt, in the order in which they are computed:
/// [`Tokens`] of many.
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
/// let prompts = [vec![1, 306, 471], vec![1, 910, 338]];
/// let mut texts = [Vec::new(), Vec::new()];
/// let greedy = Generator::greedy(40, &[2]);
/// for (prompt, token) in Together::new(&model, prompts.into_iter().map(|ids| (ids, greedy.clone())), 16) {
///     texts[prompt].push(token?.id);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Together<'m, P> {
    model: &'m dyn CausalLm,
    /// `None` once the device has failed.
    waiting: Option<Enumerate<P>>,
    running: Vec<(usize, Tokens<'m, Session<'m>>)>,
    /// Those of the last pass.
    tokens: VecDeque<(usize, Result<Token, Error>)>,
    at_once: usize,
}

impl<'m, P: Iterator<Item = (Vec<u32>, Generator)>> Together<'m, P> {
    /// Continues prompts, at most `at_once` at a time, or 1. A prompt that the model cannot read, and a setting of a sampler out of its
    /// range, is an error of that text.
    pub fn new(model: &'m dyn CausalLm, prompts: impl IntoIterator<IntoIter = P>, at_once: usize) -> Self {
        let waiting = Some(prompts.into_iter().enumerate());
        Self { model, waiting, running: Vec::new(), tokens: VecDeque::new(), at_once: at_once.max(1) }
    }

    /// Begins texts in the place of those that have ended.
    fn begin(&mut self) {
        self.running.retain(|(_, tokens)| !tokens.is_ended());
        while self.running.len() < self.at_once {
            let Some((prompt, (ids, generator))) = self.waiting.as_mut().and_then(Iterator::next) else { return };
            let Generator { max_new_tokens, stop_ids, sampler } = generator;
            let session = Session::new(self.model, ids.len() + max_new_tokens.min(1024));
            match Tokens::new(session, &ids, max_new_tokens, stop_ids, sampler) {
                Ok(tokens) if tokens.is_ended() => {}
                Ok(tokens) => self.running.push((prompt, tokens)),
                Err(error) => self.tokens.push_back((prompt, Err(error))),
            }
        }
    }

    /// A token more of each text. Where the device fails, all end, with an error of the first.
    fn step(&mut self) {
        match read_each(&mut self.running) {
            Ok(all_logits) => {
                for ((prompt, tokens), logits) in self.running.iter_mut().zip(all_logits) {
                    let logits = tokens.session.finite(logits);
                    self.tokens.push_back((*prompt, tokens.choose(logits)));
                }
            }
            Err(error) => {
                self.waiting = None;
                let first = self.running.drain(..).next();
                self.tokens.extend(first.map(|(prompt, _)| (prompt, Err(error))));
            }
        }
    }
}

impl<P: Iterator<Item = (Vec<u32>, Generator)>> Iterator for Together<'_, P> {
    type Item = (usize, Result<Token, Error>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.tokens.is_empty() {
            self.begin();
            if !self.running.is_empty() {
                self.step();
            }
        }
        self.tokens.pop_front()
    }
}

/// Reads the unread tokens of texts of one model; the logits after each.
fn read_each<'m>(texts: &mut [(usize, Tokens<'m, Session<'m>>)]) -> Result<Vec<Vec<f32>>, Error> {
    let mut unread: VecDeque<usize> = texts.iter_mut().map(|(_, tokens)| tokens.session.take(&tokens.unread)).collect();
    let mut all = Vec::new();
    while all.len() < texts.len() {
        // As many as fit into a pass, or one that is read in several.
        let mut tokens = 0;
        let fits = |n: &&usize| {
            tokens += **n;
            tokens <= PREFILL_CHUNK
        };
        let count = unread.iter().take_while(fits).count().max(1);
        let group = texts[all.len()..].iter_mut().map(|(_, tokens)| &mut tokens.session).zip(unread.drain(..count));
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
    let tokens = group.iter().map(|(_, n)| n).sum();
    let mut inputs = Vec::new();
    for (Session { cache, regime, ids, .. }, n) in group {
        inputs.push(Input { ids: &ids[ids.len() - n..], regime: *regime, cache, logits: Logits::Last });
    }
    awake(&model.device(), tokens, || model.forward(&mut inputs))
}
