//! Closing the blocks of a head, wherever its tokens are.

use half::f16;

use super::{
    BLOCK, BlockLayout, CodedBits, SINKS,
    keys::{KeyBlock, base},
    values::ValueBlock,
};

/// The tokens of a full block, and what its bits are chosen by.
#[derive(Clone, Copy, Debug)]
pub struct FullBlock<'a> {
    /// Before their rotation: `[BLOCK, dim]`.
    pub keys: &'a [f32],
    /// After the Hadamard transform over the head: `[BLOCK, dim]`.
    pub values: &'a [f32],
    /// Σ q² in each channel of the rotated queries so far, without those of the sinks: `[dim]`.
    pub squares: &'a [f32],
    /// The number of those queries.
    pub queries: f32,
    /// Pairs of channels that are rotated.
    pub pairs: usize,
}

impl FullBlock<'_> {
    /// The mean square of the queries in each channel; of both channels of a rotated pair, since between a query and a key they turn into
    /// each other.
    fn energies(&self) -> Vec<f32> {
        let (sums, n, pairs) = (self.squares, self.queries.max(1.0), self.pairs);
        let energy = |c: usize| {
            if c >= 2 * pairs {
                return sums[c] / n;
            }
            0.5 * (sums[c % pairs] + sums[c % pairs + pairs]) / n
        };
        (0..sums.len()).map(energy).collect()
    }
}

/// Encodes the blocks of one head, one after the other.
#[derive(Clone, Debug)]
pub struct BlockEncoder {
    bits: CodedBits,
    dim: usize,
    /// What all keys are coded around, from the first block; empty before it.
    base: Vec<f16>,
}

impl BlockEncoder {
    /// For vectors of `dim` elements.
    pub fn new(bits: CodedBits, dim: usize) -> Self {
        Self { bits, dim, base: Vec::new() }
    }

    pub(super) fn base(&self) -> &[f16] {
        &self.base
    }

    /// Whether no block is closed.
    pub(super) fn is_new(&self) -> bool {
        self.base.is_empty()
    }

    pub(super) fn close(&mut self, block: FullBlock<'_>) -> (KeyBlock, ValueBlock) {
        let skip = if self.is_new() { SINKS } else { 0 };
        if self.is_new() {
            self.base = base(block.keys, self.dim);
        }
        let keys = KeyBlock::close(block.keys, &self.base, &block.energies(), self.bits.keys, skip);
        (keys, ValueBlock::close(block.values, self.dim, self.bits.values, skip))
    }

    /// Encodes the next block as the words of [`BlockLayout`]; before those of the first are the words of the head.
    ///
    /// # Panics
    /// When the block is not of [`BLOCK`] vectors of `dim` elements, or `dim` is larger than [`BlockLayout::MOST_DIM`].
    pub fn words(&mut self, block: FullBlock<'_>) -> Vec<u32> {
        assert!(self.dim <= BlockLayout::MOST_DIM, "words: at most {} elements", BlockLayout::MOST_DIM);
        let dim = self.dim;
        let shape = [block.keys.len(), block.values.len(), block.squares.len()];
        assert_eq!(shape, [BLOCK * dim, BLOCK * dim, dim], "words: a full block");
        let first = self.is_new();
        let (keys, values) = self.close(block);
        let mut words = Vec::new();
        if first {
            words.extend(self.base.iter().map(|base| base.to_f32().to_bits()));
            let sinks = [block.keys, block.values].map(|vectors| vectors[..SINKS * dim].iter().map(|x| x.to_bits()));
            words.extend(sinks.into_iter().flatten());
        }
        keys.push_words(&mut words);
        values.push_words(&mut words);
        words
    }
}
