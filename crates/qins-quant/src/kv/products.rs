//! The products of attention with a block of vectors: of few queries, which read each vector once, and of many.

use super::BLOCK;
use crate::kernel::{Accumulate, Simd, Transpose, matmul, per_isa};

/// Queries of which each is multiplied by itself, in the same order for any number of them.
const FEW: usize = 16;

/// Elements of a vector whose sums are in registers.
const WIDTH: usize = 32;

/// `scores[rows, BLOCK] = queries[rows, dim] · keys[dim, BLOCK]`.
pub(super) fn scores_by_channel(scores: &mut [f32], queries: &[f32], keys: &[f32]) {
    let (rows, dim) = (scores.len() / BLOCK, keys.len() / BLOCK);
    if rows <= FEW {
        return few_scores(Simd::get(), scores, queries, keys);
    }
    matmul(scores, queries, keys, [rows, BLOCK, dim], Transpose::No, Accumulate::No);
}

/// `out[rows, dim] += weights[rows, n] · values[n, dim]`.
pub(super) fn add_values(out: &mut [f32], weights: &[f32], values: &[f32], [rows, dim, n]: [usize; 3]) {
    if rows <= FEW {
        return few_values(Simd::get(), out, weights, values, dim, n);
    }
    matmul(out, weights, values, [rows, dim, n], Transpose::No, Accumulate::Yes);
}

per_isa! { fn few_scores(scores: &mut [f32], queries: &[f32], keys: &[f32]) = few_scores_inlined }

#[inline(always)]
fn few_scores_inlined(scores: &mut [f32], queries: &[f32], keys: &[f32]) {
    let (keys, dim) = (keys.as_chunks::<BLOCK>().0, keys.len() / BLOCK);
    for (scores, query) in scores.as_chunks_mut::<BLOCK>().0.iter_mut().zip(queries.chunks_exact(dim)) {
        let mut sums = [0.0; BLOCK];
        for (q, channel) in query.iter().zip(keys) {
            for i in 0..BLOCK {
                sums[i] += q * channel[i];
            }
        }
        *scores = sums;
    }
}

per_isa! { fn few_values(out: &mut [f32], weights: &[f32], values: &[f32], dim: usize, n: usize) = few_values_inlined }

#[inline(always)]
fn few_values_inlined(out: &mut [f32], weights: &[f32], values: &[f32], dim: usize, n: usize) {
    for (out, weights) in out.chunks_exact_mut(dim).zip(weights.chunks_exact(n)) {
        let (wide, rest) = out.as_chunks_mut::<WIDTH>();
        for (at, out) in wide.iter_mut().enumerate() {
            let mut sums = *out;
            for (weight, value) in weights.iter().zip(values.chunks_exact(dim)) {
                let value: &[f32; WIDTH] = value[at * WIDTH..].first_chunk().unwrap_or(&[0.0; WIDTH]);
                for i in 0..WIDTH {
                    sums[i] += weight * value[i];
                }
            }
            *out = sums;
        }
        let at = dim - rest.len();
        for (weight, value) in weights.iter().zip(values.chunks_exact(dim)) {
            rest.iter_mut().zip(&value[at..]).for_each(|(x, v)| *x += weight * v);
        }
    }
}
