//! Attention over encoded vectors, decoded into shared memory a few tokens at a time, with the running maximum and
//! sum of each query (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018). The tokens are split among
//! cubes, so that few queries of a long context still occupy the device; the partial results are then combined.
//!
//! In a coded cache a block's keys are rotated by their places in it, and the queries back by the angle of its first position.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::{
    codes::{self, Closed, Codes},
    input::tanh,
    kv::{Form, Vectors, number},
};

/// Units of a cube.
pub(super) const UNITS: usize = 128;

/// The compile-time parameters of an attention kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    /// Elements of a vector.
    pub(super) dim: u32,
    /// Queries of a cube.
    pub(super) queries: u32,
    /// Tokens decoded at a time.
    pub(super) step: u32,
    pub(super) keys: Form,
    pub(super) values: Form,
    /// Of a coded cache, whose open block is `keys` and `values`.
    pub(super) codes: Option<Codes>,
}

impl Shape {
    /// With as many queries and tokens, at most, as fit `bytes` of shared memory: first queries are reduced, down to eight, then tokens, since
    /// decoded vectors serve all queries.
    pub(super) fn within(self, bytes: usize) -> Self {
        let mut shape = self;
        while shape.shared() > bytes && (shape.queries > 1 || shape.step > 1) {
            if shape.queries > 8 || shape.step <= 8 && shape.queries > 1 {
                shape.queries /= 2;
            } else {
                shape.step /= 2;
            }
        }
        shape
    }

    fn shared(&self) -> usize {
        let Self { dim, queries, step, .. } = *self;
        4 * (queries * dim + step * (dim + 1) + queries * step + 3 * queries) as usize
    }
}

/// Which tokens the queries attend to: query i of `n` is at `start + i`, and attends to at most this many tokens, the last its own.
#[derive(CubeLaunch, CubeType)]
pub(super) struct Seen {
    start: u32,
    n: u32,
    window: u32,
}

/// Queries `[heads, rows, dim]`, row i of which is query i mod n; results `[parts, heads, rows, dim]` not yet divided by their sums,
/// and `[parts, heads, rows, 2]`: the largest score, and the sum. A `softcap` of 0 is none. A cube handles some queries of a head, and `share` tokens.
/// `closed` and `turns` are those of a coded cache.
#[cube(launch_unchecked)]
pub(super) fn attend(
    queries: &[f32],
    keys: Vectors,
    values: Vectors,
    closed: Closed,
    turns: &[f32],
    results: &mut [f32],
    tops: &mut [f32],
    seen: Seen,
    rows: u32,
    share: u32,
    scale: f32,
    softcap: f32,
    #[comptime] shape: Shape,
) {
    let (dim, tile, many) = (comptime!(shape.dim), comptime!(shape.queries), comptime!(shape.step));
    // Rows of shared memory, padded by one element to avoid bank conflicts.
    let stride = comptime!(dim + 1);
    let (part, head, first) = (CUBE_POS_X, CUBE_POS_Z, CUBE_POS_Y * tile);
    let len = seen.start + seen.n;
    let unit = UNIT_POS;

    let mut query = Shared::<[f32]>::new_slice(comptime!((tile * dim) as usize));
    let mut vectors = Shared::<[f32]>::new_slice(comptime!((many * stride) as usize));
    let mut scores = Shared::<[f32]>::new_slice(comptime!((tile * many) as usize));
    // For each query: the largest score, the sum, and the rescaling factor of earlier results.
    let mut state = Shared::<[f32]>::new_slice(comptime!((3 * tile) as usize));

    if comptime!(shape.codes.is_none()) {
        load(&mut query, queries, turns, head, first, rows, 0u32, scale, shape);
    }
    if unit < tile {
        state[unit as usize] = f32::new(f32::MIN);
        state[(tile + unit) as usize] = 0.0;
    }
    let held = comptime!((tile * dim).div_ceil(UNITS as u32));
    let mut sum = Array::<f32>::new(held as usize);
    #[unroll]
    for i in 0..comptime!(held as usize) {
        sum[i] = 0.0;
    }

    // The first token that any query of the cube attends to. Rows of another head of the group start over.
    let last = (first + tile).min(rows) - 1;
    let one_head = first / seen.n == last / seen.n;
    let earliest = seen.start + select(one_head, first % seen.n, 0u32) + 1;
    let latest = select(one_head, seen.start + last % seen.n + 1, len);
    let oldest = earliest - earliest.min(seen.window);
    let end = ((part + 1) * share).min(latest);
    let begin = (part * share).max(oldest / many * many);
    let mut step = begin;
    while step < end {
        let tokens = (end - step).min(many);
        if comptime!(shape.codes.is_some()) {
            let coded = comptime!(shape.codes.expect("just seen"));
            if step == begin || step / codes::TOKENS * codes::TOKENS == step {
                load(&mut query, queries, turns, head, first, rows, step / codes::TOKENS, scale, shape);
            }
            codes::keys(&mut vectors, &closed, &keys, turns, head, step, tokens, coded);
        } else {
            fill(&mut vectors, &keys, head, step, tokens, dim, shape.keys);
        }
        sync_cube();
        let mut pair = unit;
        while pair < comptime!(tile * many) {
            let (row, token) = (pair / many, pair % many);
            if token < tokens {
                let mut score = 0.0f32;
                for c in 0..dim {
                    score += query[(row * dim + c) as usize] * vectors[(token * stride + c) as usize];
                }
                scores[pair as usize] =
                    select(softcap > 0.0, softcap * tanh(score / softcap.max(f32::MIN_POSITIVE)), score);
            }
            pair += comptime!(UNITS as u32);
        }
        sync_cube();
        if unit < tile {
            let position = seen.start + (first + unit) % seen.n;
            let before = state[unit as usize];
            let mut top = before;
            for token in 0..tokens {
                if visible(position, step + token, seen.window) {
                    top = top.max(scores[(unit * many + token) as usize]);
                }
            }
            let mut total = 0.0f32;
            for token in 0..tokens {
                let at = (unit * many + token) as usize;
                let share = select(visible(position, step + token, seen.window), (scores[at] - top).exp(), 0.0);
                scores[at] = share;
                total += share;
            }
            let shrink = (before - top).exp();
            state[unit as usize] = top;
            state[(tile + unit) as usize] = state[(tile + unit) as usize] * shrink + total;
            state[(2 * tile + unit) as usize] = shrink;
        }
        if comptime!(shape.codes.is_some()) {
            let coded = comptime!(shape.codes.expect("just seen"));
            codes::values(&mut vectors, &closed, &values, head, step, tokens, coded);
        } else {
            fill(&mut vectors, &values, head, step, tokens, dim, shape.values);
        }
        sync_cube();
        #[unroll]
        for i in 0..comptime!(held as usize) {
            let at = unit + comptime!((i * UNITS) as u32);
            if at < comptime!(tile * dim) {
                let (row, c) = (at / dim, at % dim);
                let mut more = 0.0f32;
                for token in 0..tokens {
                    more += scores[(row * many + token) as usize] * vectors[(token * stride + c) as usize];
                }
                sum[i] = sum[i] * state[(2 * tile + row) as usize] + more;
            }
        }
        sync_cube();
        step += many;
    }

    let base = (part * CUBE_COUNT_Z + head) * rows;
    #[unroll]
    for i in 0..comptime!(held as usize) {
        let at = unit + comptime!((i * UNITS) as u32);
        if at < comptime!(tile * dim) && first + at / dim < rows {
            results[((base + first + at / dim) * dim + at % dim) as usize] = sum[i];
        }
    }
    if unit < tile && first + unit < rows {
        let at = 2 * (base + first + unit);
        tops[at as usize] = state[unit as usize];
        tops[(at + 1) as usize] = state[(tile + unit) as usize];
    }
}

/// Queries into shared memory, times `scale`; of a coded cache turned for a block.
#[cube]
fn load(
    shared: &mut Shared<[f32]>,
    queries: &[f32],
    turns: &[f32],
    head: u32,
    first: u32,
    rows: u32,
    block: u32,
    scale: f32,
    #[comptime] shape: Shape,
) {
    let (dim, tile) = (comptime!(shape.dim), comptime!(shape.queries));
    let mut i = UNIT_POS;
    while i < comptime!(tile * dim) {
        // A row beyond the last is not written, so what is read in its place does not matter.
        let row = (first + i / dim).min(rows - 1);
        let (at, c) = ((head * rows + row) * dim, i % dim);
        if comptime!(shape.codes.is_some()) {
            let coded = comptime!(shape.codes.expect("just seen"));
            shared[i as usize] = codes::turned(queries, at, c, turns, block, coded) * scale;
        } else {
            shared[i as usize] = queries[(at + c) as usize] * scale;
        }
        i += comptime!(UNITS as u32);
    }
}

/// Whether a query at `position` attends to `token`.
#[cube]
fn visible(position: u32, token: u32, window: u32) -> bool {
    token <= position && position - token.min(position) < window
}

/// Decodes the vectors of some tokens into shared memory.
#[cube]
fn fill(
    shared: &mut Shared<[f32]>,
    vectors: &Vectors,
    head: u32,
    first: u32,
    tokens: u32,
    #[comptime] dim: u32,
    #[comptime] form: Form,
) {
    let mut i = UNIT_POS;
    while i < tokens * dim {
        let (token, c) = (i / dim, i % dim);
        shared[(token * comptime!(dim + 1) + c) as usize] = number(vectors, head, first + token, c, dim, form);
        i += comptime!(UNITS as u32);
    }
}

/// Combines `parts` partial results: `[heads·rows, dim]`.
#[cube(launch_unchecked)]
pub(super) fn combine(results: &[f32], tops: &[f32], out: &mut [f32], rows: u32, parts: u32, #[comptime] dim: u32) {
    let at = ABSOLUTE_POS as u32;
    if at < rows * dim {
        let row = at / dim;
        let mut top = f32::new(f32::MIN);
        for part in 0..parts {
            top = top.max(tops[(2 * (part * rows + row)) as usize]);
        }
        let mut result = 0.0f32;
        let mut sum = 0.0f32;
        for part in 0..parts {
            let from = part * rows + row;
            let weight = (tops[(2 * from) as usize] - top).exp();
            sum += weight * tops[(2 * from + 1) as usize];
            result += weight * results[(from * dim + at % dim) as usize];
        }
        out[at as usize] = result / sum;
    }
}
