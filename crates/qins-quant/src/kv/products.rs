//! The products of attention with a block of vectors. The sums of a query have the same order whatever the number of queries, so that
//! attention has the same bits in pieces of any length.

use super::BLOCK;
use crate::kernel::per_isa;

/// Sums of a query that are in registers.
const WIDTH: usize = 32;

per_isa! {
    /// `scores[rows, BLOCK] = queries[rows, dim] · keys[dim, BLOCK]`.
    pub(super) fn scores_by_channel(scores: &mut [f32], queries: &[f32], keys: &[f32]) = by_channel
}

#[inline(always)]
fn by_channel(scores: &mut [f32], queries: &[f32], keys: &[f32]) {
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

per_isa! {
    /// `scores[rows, n] = queries[rows, dim] · keys[n, dim]ᵀ`.
    pub(super) fn scores_by_token(scores: &mut [f32], queries: &[f32], keys: &[f32], dim: usize) = by_token
}

#[inline(always)]
fn by_token(scores: &mut [f32], queries: &[f32], keys: &[f32], dim: usize) {
    let n = keys.len() / dim;
    for (scores, query) in scores.chunks_exact_mut(n).zip(queries.chunks_exact(dim)) {
        let (q, q_rest) = query.as_chunks::<WIDTH>();
        for (score, key) in scores.iter_mut().zip(keys.chunks_exact(dim)) {
            let (k, k_rest) = key.as_chunks::<WIDTH>();
            let mut sums = [0.0; WIDTH];
            for (q, k) in q.iter().zip(k) {
                for i in 0..WIDTH {
                    sums[i] += q[i] * k[i];
                }
            }
            sums.iter_mut().zip(q_rest.iter().zip(k_rest)).for_each(|(sum, (q, k))| *sum += q * k);
            let mut left = WIDTH;
            while left > 1 {
                left /= 2;
                for i in 0..left {
                    sums[i] += sums[i + left];
                }
            }
            *score = sums[0];
        }
    }
}

per_isa! {
    /// `out[rows, dim] += weights[rows, n] · values[n, dim]`.
    pub(super) fn add_values(out: &mut [f32], weights: &[f32], values: &[f32], dim: usize, n: usize) = weighted
}

#[inline(always)]
fn weighted(out: &mut [f32], weights: &[f32], values: &[f32], dim: usize, n: usize) {
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
        let whole = dim - rest.len();
        for (weight, value) in weights.iter().zip(values.chunks_exact(dim)) {
            rest.iter_mut().zip(&value[whole..]).for_each(|(x, v)| *x += weight * v);
        }
    }
}
