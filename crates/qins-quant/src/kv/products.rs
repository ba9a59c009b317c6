//! The products of attention with a block of keys and values. Some channels at a time are read, and multiplied with all queries while
//! they are in the fastest cache. The sums of a query have the same order whatever the number of queries, so that attention has the same
//! bits in pieces of any length.

use super::{BLOCK, GROUP, Rotations, block::Block};
use crate::kernel::{Planes, per_planes};

/// Channels of keys that are read together; as many again are the other halves of their pairs.
const TILE: usize = 16;

per_planes! {
    /// `scores[rows, BLOCK] = queries[rows, dim] · keys[BLOCK, dim]ᵀ`. Keys that are not rotated are, by their places in the block.
    pub(super) fn scores(block: Block<'_>, rotations: Option<&Rotations>, queries: &[f32], scores: &mut [f32]) = all_scores
}

#[inline(always)]
fn all_scores(
    reader: impl Planes,
    block: Block<'_>,
    rotations: Option<&Rotations>,
    queries: &[f32],
    scores: &mut [f32],
) {
    scores.fill(0.0);
    let (dim, pairs) = (block.dim(), rotations.map_or(0, Rotations::pairs));
    let [mut ones, mut others] = [[[0.0; BLOCK]; TILE]; 2];
    for first in (0..pairs).step_by(TILE) {
        let n = TILE.min(pairs - first);
        // Stored as they are multiplied, they need no copy.
        if let (Some(ones), Some(others)) = (block.stored_keys(first, n), block.stored_keys(pairs + first, n)) {
            add_channels(reader, &queries[first..], dim, ones, scores);
            add_channels(reader, &queries[pairs + first..], dim, others, scores);
            continue;
        }
        let (ones, others) = (&mut ones[..n], &mut others[..n]);
        block.keys(reader, first, ones);
        block.keys(reader, pairs + first, others);
        if let Some(rotations) = rotations.filter(|_| block.is_unrotated()) {
            rotations.rotate_pairs(first, ones, others);
        }
        add_channels(reader, &queries[first..], dim, ones, scores);
        add_channels(reader, &queries[pairs + first..], dim, others, scores);
    }
    for first in (2 * pairs..dim).step_by(TILE) {
        let tile = &mut ones[..TILE.min(dim - first)];
        block.keys(reader, first, tile);
        add_channels(reader, &queries[first..], dim, tile, scores);
    }
}

/// `scores[rows, BLOCK] += queries · channels`, of queries that start `dim` numbers apart.
#[inline(always)]
fn add_channels(reader: impl Planes, queries: &[f32], dim: usize, channels: &[[f32; BLOCK]], scores: &mut [f32]) {
    // Loops, as the compiler may leave a closure's code to the baseline's instructions.
    let scores = scores.as_chunks_mut::<BLOCK>().0;
    let (pairs, last) = scores.as_chunks_mut::<2>();
    let mut queries = queries.chunks(dim).map(|query| &query[..channels.len()]);
    for sums in pairs {
        let (Some(one), Some(other)) = (queries.next(), queries.next()) else { return };
        if reader.is_wide() {
            reader.add_products([one, other], channels, sums);
            continue;
        }
        for (query, sums) in [one, other].into_iter().zip(sums) {
            reader.add_products([query], channels, std::array::from_mut(sums));
        }
    }
    for (sums, query) in last.iter_mut().zip(queries) {
        reader.add_products([query], channels, std::array::from_mut(sums));
    }
}

per_planes! {
    /// `out[rows, dim] += weights[rows, BLOCK] · values[BLOCK, dim]`, of the first `n` tokens.
    pub(super) fn add_values(block: Block<'_>, n: usize, weights: &[f32], out: &mut [f32]) = add_all_values
}

#[inline(always)]
fn add_all_values(reader: impl Planes, block: Block<'_>, n: usize, weights: &[f32], out: &mut [f32]) {
    let dim = block.dim();
    let mut tile = [[0.0; GROUP]; BLOCK];
    let tile = &mut tile[..n];
    for first in (0..dim).step_by(GROUP) {
        block.values(reader, first, tile);
        let mut add = Group { first, dim, tile, out };
        let (mut row, rows) = (0, weights.len() / BLOCK);
        let weights = |row: usize| &weights[row * BLOCK..][..n];
        while reader.is_wide() && row + 4 <= rows {
            add.rows(reader, row, [weights(row), weights(row + 1), weights(row + 2), weights(row + 3)]);
            row += 4;
        }
        while row + 2 <= rows {
            add.rows(reader, row, [weights(row), weights(row + 1)]);
            row += 2;
        }
        while row < rows {
            add.rows(reader, row, [weights(row)]);
            row += 1;
        }
    }
}

/// Channels of values that are added together.
struct Group<'a> {
    first: usize,
    dim: usize,
    tile: &'a [[f32; GROUP]],
    out: &'a mut [f32],
}

impl Group<'_> {
    /// Adds them to some rows from `row` on.
    #[inline(always)]
    fn rows<const ROWS: usize>(&mut self, reader: impl Planes, row: usize, weights: [&[f32]; ROWS]) {
        let (start, width) = (row * self.dim + self.first, GROUP.min(self.dim - self.first));
        let mut sums = [[0.0; GROUP]; ROWS];
        for (i, sums) in sums.iter_mut().enumerate() {
            sums[..width].copy_from_slice(&self.out[start + i * self.dim..][..width]);
        }
        reader.add_products(weights, self.tile, &mut sums);
        for (i, sums) in sums.iter().enumerate() {
            self.out[start + i * self.dim..][..width].copy_from_slice(&sums[..width]);
        }
    }
}
