//! Attention over vectors that rest encoded, decoded a block of tokens at a time.
//!
//! One pass over the blocks, with the running maximum and sum of each query: Milakov and Gimelshein, "Online normalizer
//! calculation for softmax", 2018. So no row of scores is ever whole, and memory does not grow with the context.

use std::ops::Range;

use rayon::prelude::*;

use super::{KvScheme, Vectors, vectors::BLOCK};
use crate::kernel::{Right, Sum, matmul};

/// The keys and values of all heads of a block.
#[derive(Clone, Debug)]
pub struct Heads {
    heads: Vec<(Vectors, Vectors)>,
    dim: usize,
}

/// Which tokens the queries see: the `i`th of `n` is at `start + i`, and sees itself and what precedes it, at most `window`
/// tokens in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visible {
    /// Position of the first query.
    pub start: usize,
    /// Queries.
    pub n: usize,
    /// Tokens that each sees at most.
    pub window: Option<usize>,
}

impl Visible {
    fn of(self, query: usize) -> Range<usize> {
        let position = self.start + query;
        (position + 1).saturating_sub(self.window.unwrap_or(usize::MAX))..position + 1
    }
}

impl Heads {
    /// No tokens yet, of `heads` heads whose vectors have `dim` numbers; with room for `capacity` tokens.
    pub fn new(scheme: KvScheme, heads: usize, dim: usize, capacity: usize) -> Self {
        let head = || {
            let vectors = |form| Vectors::new(form, dim, capacity);
            (vectors(scheme.keys()), vectors(scheme.values()))
        };
        Self { heads: (0..heads).map(|_| head()).collect(), dim }
    }

    /// Tokens so far.
    pub fn len(&self) -> usize {
        self.heads.first().map_or(0, |(keys, _)| keys.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.heads.iter().map(|(keys, values)| keys.bytes() + values.bytes()).sum()
    }

    /// Forgets all tokens, and keeps the memory.
    pub fn clear(&mut self) {
        for (keys, values) in &mut self.heads {
            keys.clear();
            values.clear();
        }
    }

    /// Encodes the keys and values of `n` more tokens, each `[heads, n, dim]` row-major.
    ///
    /// # Panics
    /// When the two differ in length, or are not of so many heads.
    pub fn append(&mut self, keys: &[f32], values: &[f32]) {
        assert_eq!(keys.len(), values.len(), "append: keys and values of the same tokens");
        let each = keys.len() / self.heads.len().max(1);
        assert_eq!((each * self.heads.len(), each % self.dim), (keys.len(), 0), "append: whole vectors of all heads");
        let parts = keys.par_chunks(each.max(1)).zip(values.par_chunks(each.max(1)));
        self.heads.par_iter_mut().zip(parts).for_each(|((k, v), (keys, values))| {
            k.append(keys);
            v.append(values);
        });
    }

    /// softmax(q·kᵀ / √dim)·v: queries `[heads, group·n, dim]`, those of one key head together, of which row g·n + i is at
    /// `visible.start + i`; gives as many rows.
    ///
    /// # Panics
    /// When the queries are not of so many heads, or see tokens that are not there.
    pub fn attend(&self, queries: &[f32], visible: Visible) -> Vec<f32> {
        let each = queries.len() / self.heads.len().max(1);
        assert_eq!(each * self.heads.len(), queries.len(), "attend: queries of all heads");
        assert!(each.is_multiple_of(visible.n * self.dim), "attend: as many queries for each head of a group");
        assert!(visible.start + visible.n <= self.len(), "attend: tokens that were appended");
        let mut out = vec![0.0; queries.len()];
        let heads = self.heads.par_iter().zip(queries.par_chunks(each)).zip(out.par_chunks_mut(each));
        heads.for_each(|(((keys, values), queries), out)| attend(keys, values, queries, self.dim, visible, out));
        out
    }
}

fn attend(keys: &Vectors, values: &Vectors, queries: &[f32], dim: usize, visible: Visible, out: &mut [f32]) {
    let rows = queries.len() / dim;
    let scale = 1.0 / (dim as f32).sqrt();
    let (mut key, mut value) = (vec![0.0; BLOCK * dim], vec![0.0; BLOCK * dim]);
    let mut scores = vec![0.0; rows * BLOCK];
    let (mut largest, mut sums) = (vec![f32::NEG_INFINITY; rows], vec![0.0_f32; rows]);
    let (first, end) = (visible.of(0).start, visible.start + visible.n);
    // Blocks lie where they do whatever is asked, so that a token's result does not depend on its neighbours.
    for block in first / BLOCK..end.div_ceil(BLOCK) {
        let tokens = (block * BLOCK).max(first)..((block + 1) * BLOCK).min(end);
        let n = tokens.len();
        keys.decode(tokens.clone(), &mut key[..n * dim]);
        values.decode(tokens.clone(), &mut value[..n * dim]);
        // scores[rows, n] = queries[rows, dim] · key[n, dim]ᵀ
        matmul(&mut scores[..rows * n], queries, &key[..n * dim], [rows, n, dim], Right::Transposed, Sum::New);
        for (row, scores) in scores[..rows * n].chunks_exact_mut(n).enumerate() {
            let seen = visible.of(row % visible.n);
            let mut top = largest[row];
            for (token, score) in tokens.clone().zip(scores.iter_mut()) {
                *score = if seen.contains(&token) { *score * scale } else { f32::NEG_INFINITY };
                top = if top.is_nan() || score.is_nan() { f32::NAN } else { top.max(*score) };
            }
            // A query that sees nothing of the block and has seen nothing yet.
            if top == f32::NEG_INFINITY {
                scores.fill(0.0);
                continue;
            }
            let shrink = (largest[row] - top).exp();
            largest[row] = top;
            let mut sum = 0.0;
            for score in scores.iter_mut() {
                *score = (*score - top).exp();
                sum += *score;
            }
            sums[row] = sums[row] * shrink + sum;
            if shrink != 1.0 {
                out[row * dim..][..dim].iter_mut().for_each(|x| *x *= shrink);
            }
        }
        // out[rows, dim] += scores[rows, n] · value[n, dim]
        matmul(out, &scores[..rows * n], &value[..n * dim], [rows, dim, n], Right::AsIs, Sum::Added);
    }
    for (out, sum) in out.chunks_exact_mut(dim).zip(sums) {
        out.iter_mut().for_each(|x| *x /= sum);
    }
}
