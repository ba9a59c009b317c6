//! Attention over encoded keys and values, decoded a block of tokens at a time.
//!
//! It is one pass over the blocks with a running maximum and sum for each query, as in Milakov and Gimelshein, "Online
//! normalizer calculation for softmax", 2018. The scores of a block are all that is in memory, whatever the context length.

use std::ops::Range;

use rayon::prelude::*;

use super::{KvScheme, Vectors, vectors::BLOCK};
use crate::kernel::{Accumulate, Transpose, matmul};

/// The encoded keys and values of all KV heads of one layer.
#[derive(Clone, Debug)]
pub struct Heads {
    heads: Vec<(Vectors, Vectors)>,
    dim: usize,
}

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
    fn capped(self, score: f32) -> f32 {
        self.softcap.map_or(score, |cap| cap * (score / cap).tanh())
    }

    /// The tokens that a query attends to.
    fn tokens(self, query: usize) -> Range<usize> {
        let position = self.start + query;
        (position + 1).saturating_sub(self.window.unwrap_or(usize::MAX))..position + 1
    }
}

impl Heads {
    /// An empty cache for `heads` heads whose vectors have `dim` elements, with room for `capacity` tokens.
    pub fn new(scheme: KvScheme, heads: usize, dim: usize, capacity: usize) -> Self {
        let head = || {
            let vectors = |form| Vectors::new(form, dim, capacity);
            (vectors(scheme.keys()), vectors(scheme.values()))
        };
        Self { heads: (0..heads).map(|_| head()).collect(), dim }
    }

    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.heads.first().map_or(0, |(keys, _)| keys.len())
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.heads.iter().map(|(keys, values)| keys.bytes() + values.bytes()).sum()
    }

    /// The first finite key or value that was beyond the range of its form, and so became NaN.
    pub fn beyond(&self) -> Option<f32> {
        self.heads.iter().find_map(|(keys, values)| keys.beyond().or(values.beyond()))
    }

    /// Removes all tokens, and keeps the allocated memory.
    pub fn clear(&mut self) {
        for (keys, values) in &mut self.heads {
            keys.clear();
            values.clear();
        }
    }

    /// Encodes and appends the keys and values of `n` tokens, each `[heads, n, dim]`, row-major. To attend from all of them as if
    /// they came one by one, append them in the [`pieces`](KvScheme::pieces) of their scheme.
    ///
    /// # Panics
    /// When the two differ in length, or are not whole vectors of all heads.
    pub fn append(&mut self, keys: &[f32], values: &[f32]) {
        assert_eq!(keys.len(), values.len(), "append: as many keys as values");
        let each = keys.len() / self.heads.len().max(1);
        assert_eq!((each * self.heads.len(), each % self.dim), (keys.len(), 0), "append: whole vectors of all heads");
        let parts = keys.par_chunks(each.max(1)).zip(values.par_chunks(each.max(1)));
        self.heads.par_iter_mut().zip(parts).for_each(|((k, v), (keys, values))| {
            k.append(keys);
            v.append(values);
        });
    }

    /// softmax(q·kᵀ / √dim)·v for queries `[heads, group·n, dim]`, where `group` query heads share a KV head and row g·n + i of
    /// a head is at position `span.start + i`. The result has the shape of the queries.
    ///
    /// # Panics
    /// When the queries are not whole vectors of all heads, or `span` goes beyond the tokens that were appended.
    pub fn attend(&self, queries: &[f32], span: AttentionSpan) -> Vec<f32> {
        let each = queries.len() / self.heads.len().max(1);
        assert_eq!(each * self.heads.len(), queries.len(), "attend: queries of all heads");
        assert!(each.is_multiple_of(span.n * self.dim), "attend: as many queries for each head of a group");
        assert!(span.start + span.n <= self.len(), "attend: tokens that were appended");
        let mut out = vec![0.0; queries.len()];
        let heads = self.heads.par_iter().zip(queries.par_chunks(each)).zip(out.par_chunks_mut(each));
        heads.for_each(|(((keys, values), queries), out)| attend(keys, values, queries, self.dim, span, out));
        out
    }
}

fn attend(keys: &Vectors, values: &Vectors, queries: &[f32], dim: usize, span: AttentionSpan, out: &mut [f32]) {
    let rows = queries.len() / dim;
    let scale = 1.0 / (dim as f32).sqrt();
    let (mut key, mut value) = (vec![0.0; BLOCK * dim], vec![0.0; BLOCK * dim]);
    let mut scores = vec![0.0; rows * BLOCK];
    let (mut largest, mut sums) = (vec![f32::NEG_INFINITY; rows], vec![0.0_f32; rows]);
    let (first, end) = (span.tokens(0).start, span.start + span.n);
    // Blocks start at fixed positions, whatever the span, so that the result of a query does not depend on the others.
    for block in first / BLOCK..end.div_ceil(BLOCK) {
        let tokens = (block * BLOCK).max(first)..((block + 1) * BLOCK).min(end);
        let n = tokens.len();
        keys.decode(tokens.clone(), &mut key[..n * dim]);
        values.decode(tokens.clone(), &mut value[..n * dim]);
        // scores[rows, n] = queries[rows, dim] · key[n, dim]ᵀ
        matmul(&mut scores[..rows * n], queries, &key[..n * dim], [rows, n, dim], Transpose::Yes, Accumulate::No);
        for (row, scores) in scores[..rows * n].chunks_exact_mut(n).enumerate() {
            let attended = span.tokens(row % span.n);
            let mut max = largest[row];
            for (token, score) in tokens.clone().zip(scores.iter_mut()) {
                *score = if attended.contains(&token) { span.capped(*score * scale) } else { f32::NEG_INFINITY };
                max = if max.is_nan() || score.is_nan() { f32::NAN } else { max.max(*score) };
            }
            // The query attends to no token of this block, nor of those before.
            if max == f32::NEG_INFINITY {
                scores.fill(0.0);
                continue;
            }
            let shrink = (largest[row] - max).exp();
            largest[row] = max;
            let mut sum = 0.0;
            for score in scores.iter_mut() {
                *score = (*score - max).exp();
                sum += *score;
            }
            sums[row] = sums[row] * shrink + sum;
            if shrink != 1.0 {
                out[row * dim..][..dim].iter_mut().for_each(|x| *x *= shrink);
            }
        }
        // out[rows, dim] += scores[rows, n] · value[n, dim]
        matmul(out, &scores[..rows * n], &value[..n * dim], [rows, dim, n], Transpose::No, Accumulate::Yes);
    }
    for (out, sum) in out.chunks_exact_mut(dim).zip(sums) {
        out.iter_mut().for_each(|x| *x /= sum);
    }
}
