//! Attention over encoded keys and values, decoded a block of tokens at a time.
//!
//! It is one pass over the blocks with a running maximum and sum for each query, as in Milakov and Gimelshein, "Online
//! normalizer calculation for softmax", 2018. The scores of a block are all that is in memory, whatever the context length. A long
//! context is passed in parts side by side, whose results are then combined.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    BLOCK, Rotations,
    block::Block,
    coded::hadamard,
    heads::Head,
    products::{add_values, scores},
    softmax::{Weighed, weigh, worse},
};
use crate::kernel::{Simd, exp};

/// Blocks that are passed one after the other. The parts are the same on any number of threads, and so is the result.
const PART: usize = 16;

/// The tokens that causal attention covers: query `i` of `n` is at position `start + i` and attends to itself and the tokens
/// before it, at most `window` tokens in all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionSpan {
    /// The position of the first query.
    pub start: usize,
    /// The number of queries.
    pub n: usize,
    /// The most tokens that a query attends to; `None` for all.
    pub window: Option<usize>,
    /// c of a soft cap of the scores, c·tanh(score/c); `None` for none.
    pub softcap: Option<f32>,
}

impl AttentionSpan {
    /// The tokens that a query attends to.
    fn tokens(self, query: usize) -> Range<usize> {
        let position = self.start + query;
        (position + 1).saturating_sub(self.window.unwrap_or(usize::MAX))..position + 1
    }
}

/// Attention so far, of each query.
struct Running {
    largest: Vec<f32>,
    sums: Vec<f32>,
    /// Not yet divided by the sums: over plain values, and over transformed ones.
    outs: [Vec<f32>; 2],
}

pub(super) fn attend(
    head: &Head,
    queries: &[f32],
    dim: usize,
    span: AttentionSpan,
    rotations: Option<&Rotations>,
) -> Vec<f32> {
    // Blocks start at fixed positions, whatever the span, so that the result of a query does not depend on the others.
    let blocks = span.tokens(0).start / BLOCK..(span.start + span.n).div_ceil(BLOCK);
    let parts: Vec<Range<usize>> = (blocks.start / PART..blocks.end.div_ceil(PART))
        .map(|part| (part * PART).max(blocks.start)..((part + 1) * PART).min(blocks.end))
        .collect();
    let pass = |blocks: Range<usize>| {
        let mut pass = Pass::new(head, queries, dim, span, rotations);
        pass.blocks(blocks);
        pass.running
    };
    let mut parts: Vec<Running> = match &parts[..] {
        [all] => vec![pass(all.clone())],
        _ => parts.into_par_iter().map(pass).collect(),
    };
    let rest = parts.split_off(1);
    let mut all = parts.swap_remove(0);
    rest.iter().for_each(|part| all.combine(part, dim));
    let [mut out, mut transformed] = all.outs;
    for (out, transformed) in out.chunks_exact_mut(dim).zip(transformed.chunks_exact_mut(dim)) {
        hadamard(transformed);
        out.iter_mut().zip(transformed).for_each(|(x, y)| *x += *y);
    }
    for (out, sum) in out.chunks_exact_mut(dim).zip(all.sums) {
        out.iter_mut().for_each(|x| *x /= sum);
    }
    out
}

impl Running {
    fn new(rows: usize, dim: usize) -> Self {
        let out = || vec![0.0; rows * dim];
        Self { largest: vec![f32::NEG_INFINITY; rows], sums: vec![0.0; rows], outs: [out(), out()] }
    }

    /// The factor of all before, after which `max` is the largest score.
    fn shrink(&mut self, row: usize, max: f32, dim: usize) {
        let shrink = exp(self.largest[row] - max);
        self.largest[row] = max;
        self.sums[row] *= shrink;
        if shrink != 1.0 {
            self.outs.iter_mut().for_each(|out| out[row * dim..][..dim].iter_mut().for_each(|x| *x *= shrink));
        }
    }

    fn combine(&mut self, other: &Self, dim: usize) {
        for row in 0..self.sums.len() {
            let max = worse(self.largest[row], other.largest[row]);
            if max == f32::NEG_INFINITY {
                continue;
            }
            self.shrink(row, max, dim);
            let factor = exp(other.largest[row] - max);
            self.sums[row] += factor * other.sums[row];
            for (out, other) in self.outs.iter_mut().zip(&other.outs) {
                let own = row * dim..(row + 1) * dim;
                out[own.clone()].iter_mut().zip(&other[own]).for_each(|(x, y)| *x += factor * y);
            }
        }
    }
}

/// A pass of queries over blocks.
struct Pass<'a> {
    simd: Simd,
    head: &'a Head,
    queries: &'a [f32],
    dim: usize,
    span: AttentionSpan,
    rotations: Option<&'a Rotations>,
    running: Running,
    /// Of a block, `[rows, BLOCK]`.
    scores: Vec<f32>,
    /// The queries, as a block has them.
    turned: Vec<f32>,
}

impl<'a> Pass<'a> {
    fn new(
        head: &'a Head,
        queries: &'a [f32],
        dim: usize,
        span: AttentionSpan,
        rotations: Option<&'a Rotations>,
    ) -> Self {
        let rows = queries.len() / dim;
        Self {
            simd: Simd::get(),
            head,
            queries,
            dim,
            span,
            rotations,
            running: Running::new(rows, dim),
            scores: vec![0.0; rows * BLOCK],
            turned: Vec::new(),
        }
    }

    fn blocks(&mut self, indices: Range<usize>) {
        // What was dropped is attended to by no query.
        let blocks: Vec<(usize, Block<'_>)> =
            indices.filter_map(|index| Some((index, self.head.block(index)?))).collect();
        if let Some((_, first)) = blocks.first() {
            first.fetch_keys(0, self.dim);
            first.fetch_values(0, self.dim);
        }
        for (i, (index, block)) in blocks.iter().enumerate() {
            self.block(*index, *block, blocks.get(i + 1).map(|(_, block)| *block));
        }
    }

    /// Of the next block the memory is fetched meanwhile: each is too short for the hardware to see that it is read in order.
    fn block(&mut self, index: usize, block: Block<'_>, next: Option<Block<'_>>) {
        let start = index * BLOCK;
        let n = BLOCK.min(self.span.start + self.span.n - start);
        let queries = match self.rotations {
            // A query at p and a key at start + i turn against each other by p − start − i.
            Some(rotations) if block.is_unrotated() && start > 0 => {
                self.turned.clear();
                self.turned.extend_from_slice(self.queries);
                rotations.rotate_back(&mut self.turned, self.dim, index);
                &self.turned[..]
            }
            _ => self.queries,
        };
        scores(self.simd, block, next, self.rotations, queries, &mut self.scores);
        self.running.weigh(self.simd, &mut self.scores, start, self.span, self.dim);
        let out = &mut self.running.outs[usize::from(block.is_transformed())];
        add_values(self.simd, block, next, n, &self.scores, out);
    }
}

impl Running {
    /// Turns the scores of the tokens of a block from `start` on, `[rows, BLOCK]`, into weights.
    fn weigh(&mut self, simd: Simd, scores: &mut [f32], start: usize, span: AttentionSpan, dim: usize) {
        let scale = 1.0 / (dim as f32).sqrt();
        for (row, scores) in scores.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            let attended = span.tokens(row % span.n);
            let [first, end] = [attended.start, attended.end].map(|token| token.clamp(start, start + BLOCK) - start);
            scores[..first].fill(f32::NEG_INFINITY);
            scores[end.max(first)..].fill(f32::NEG_INFINITY);
            let factor = match span.softcap {
                None => scale,
                Some(cap) => {
                    scores[first..end].iter_mut().for_each(|score| *score = cap * (*score * scale / cap).tanh());
                    1.0
                }
            };
            let Weighed { largest, sum } = weigh(simd, scores, factor, self.largest[row]);
            // Otherwise the query attends to no token of this block, nor of those before.
            if largest != f32::NEG_INFINITY {
                self.shrink(row, largest, dim);
                self.sums[row] += sum;
            }
        }
    }
}
