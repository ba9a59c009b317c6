//! Rotary position embedding of a cache: the tables for all of its positions.

use super::BLOCK;

/// Half-split rotations of positions from 0 on: channel c of the first `2·pairs` is rotated with channel c + pairs.
#[derive(Clone, Debug, Default)]
pub struct Rotations {
    frequencies: Vec<f32>,
    scaling: f32,
    /// `[positions, pairs]`, times the scaling.
    cos: Vec<f32>,
    sin: Vec<f32>,
    /// Those of the first [`BLOCK`] positions, `[pairs, BLOCK]`.
    within: [Vec<f32>; 2],
    /// Those of the first position of each block, back and without the scaling: `[blocks, 2·pairs]`, each row cos and then sin.
    back: Vec<f32>,
}

impl Rotations {
    /// By `position·frequency` for each pair, with cos and sin times `scaling`, as Transformers computes them: in `f32`.
    pub fn new(frequencies: &[f32], scaling: f32) -> Self {
        let mut rotations = Self { frequencies: frequencies.to_vec(), scaling, ..Self::default() };
        rotations.extend(BLOCK);
        let pairs = frequencies.len();
        let transposed = |table: &[f32]| (0..pairs * BLOCK).map(|i| table[i % BLOCK * pairs + i / BLOCK]).collect();
        rotations.within = [transposed(&rotations.cos), transposed(&rotations.sin)];
        rotations
    }

    /// Makes the tables reach `positions`.
    pub fn extend(&mut self, positions: usize) {
        let made = self.cos.len() / self.pairs().max(1);
        let angles = (made..positions).flat_map(|p| self.frequencies.iter().map(move |f| p as f32 * f));
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.map(|a| (a.cos() * self.scaling, a.sin() * self.scaling)).unzip();
        self.cos.extend(cos);
        self.sin.extend(sin);
        let blocks = self.back.len() / (2 * self.pairs()).max(1)..positions.div_ceil(BLOCK);
        self.back.extend(blocks.flat_map(|block| row(&self.frequencies, -((block * BLOCK) as f32), 1.0)));
    }

    /// The number of pairs of channels.
    pub fn pairs(&self) -> usize {
        self.frequencies.len()
    }

    /// cos and sin, `[n, pairs]`, of `n` positions from `start` on, which the tables must reach.
    pub fn tables(&self, start: usize, n: usize) -> [&[f32]; 2] {
        let rows = start * self.pairs()..(start + n) * self.pairs();
        [&self.cos[rows.clone()], &self.sin[rows]]
    }

    /// For attention by blocks, `[BLOCK + blocks, 2·pairs]`, each row cos and then sin: first of the places within a block, times the scaling, by which
    /// its keys are rotated; then of the first position of each block, without it, by which queries are rotated back.
    pub fn by_block(&self, blocks: usize) -> Vec<f32> {
        let row = |position: usize, scaling: f32| row(&self.frequencies, position as f32, scaling);
        let places = (0..BLOCK).flat_map(|place| row(place, self.scaling));
        places.chain((0..blocks).flat_map(|block| row(block * BLOCK, 1.0))).collect()
    }

    /// Rotates vectors `[n, dim]` of consecutive positions from `start` on.
    pub(super) fn rotate(&self, vectors: &mut [f32], dim: usize, start: usize) {
        for (i, vector) in vectors.chunks_exact_mut(dim).enumerate() {
            let [cos, sin] = self.tables(start + i, 1);
            turn(vector, cos, sin);
        }
    }

    /// Rotates vectors `[n, dim]` back by the angles of the first position of a block, without the scaling.
    pub(super) fn rotate_back(&self, vectors: &mut [f32], dim: usize, block: usize) {
        let pairs = self.pairs();
        let (cos, sin) = self.back[2 * pairs * block..][..2 * pairs].split_at(pairs);
        vectors.chunks_exact_mut(dim).for_each(|vector| turn(vector, cos, sin));
    }

    /// Rotates pairs from `first` on by their places in a block: one channel of each in `ones`, the other in `others`, a number for each token.
    #[inline(always)]
    pub(super) fn rotate_pairs(&self, first: usize, ones: &mut [[f32; BLOCK]], others: &mut [[f32; BLOCK]]) {
        let [cos, sin] = self.within.each_ref().map(|table| &table.as_chunks::<BLOCK>().0[first..]);
        for (((a, b), cos), sin) in ones.iter_mut().zip(others).zip(cos).zip(sin) {
            for i in 0..BLOCK {
                (a[i], b[i]) = (a[i] * cos[i] - b[i] * sin[i], b[i] * cos[i] + a[i] * sin[i]);
            }
        }
    }
}

/// cos and then sin of the angles of a position, times the scaling.
fn row(frequencies: &[f32], position: f32, scaling: f32) -> impl Iterator<Item = f32> {
    let angles = move || frequencies.iter().map(move |f| position * f);
    angles().map(move |a| a.cos() * scaling).chain(angles().map(move |a| a.sin() * scaling))
}

fn turn(vector: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (first, rest) = vector.split_at_mut(cos.len());
    for ((a, b), (cos, sin)) in first.iter_mut().zip(rest).zip(cos.iter().zip(sin)) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}
