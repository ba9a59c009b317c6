//! The coded keys and values of one head.

use std::collections::VecDeque;

use super::{
    BLOCK, BlockEncoder, ClosedBlock, CodedBits, FullBlock, SINKS,
    keys::KeyBlock,
    values::{ValueBlock, transformed},
};
use crate::{
    FloatDtype,
    kv::{block::Block, floats::FloatBlock},
};

/// The keys, before their rotation, and values of a head.
#[derive(Clone, Debug)]
pub(in crate::kv) struct CodedHead {
    dim: usize,
    encoder: BlockEncoder,
    /// Tokens in all, those that were dropped included.
    len: usize,
    /// The number of blocks that were dropped.
    dropped: usize,
    blocks: VecDeque<(KeyBlock, ValueBlock)>,
    /// The first tokens, `[SINKS, dim]` each, once their block is closed.
    sinks: [Vec<f32>; 2],
    /// The tokens after the closed blocks.
    open: FloatBlock,
    /// Σ q² of the queries in each channel, and their number; without those of the sinks.
    queries: (Vec<f32>, f32),
}

impl CodedHead {
    pub(in crate::kv) fn new(bits: CodedBits, dim: usize) -> Self {
        Self {
            dim,
            encoder: BlockEncoder::new(bits, dim),
            len: 0,
            dropped: 0,
            blocks: VecDeque::new(),
            sinks: [const { Vec::new() }; 2],
            open: FloatBlock::new(FloatDtype::F32, dim),
            queries: (vec![0.0; dim], 0.0),
        }
    }

    pub(in crate::kv) fn len(&self) -> usize {
        self.len
    }

    pub(in crate::kv) fn bytes(&self) -> usize {
        let blocks = self.blocks.iter().map(|(keys, values)| keys.bytes() + values.bytes());
        let sinks: usize = self.sinks.iter().map(|sinks| size_of_val(&sinks[..])).sum();
        blocks.sum::<usize>() + sinks + self.open.bytes() + size_of_val(self.encoder.base())
    }

    /// Appends keys, before their rotation, and values, `[n, dim]`, and what their queries, `[group·n, dim]`, say of the channels.
    ///
    /// A full block is closed when the next token comes: its own queries attend to it as it was.
    pub(in crate::kv) fn append(&mut self, keys: &[f32], values: &[f32], queries: &[f32], pairs: usize) {
        let n = keys.len() / self.dim;
        for i in 0..n {
            if self.open.len() == BLOCK {
                self.close(pairs);
            }
            let own = i * self.dim..(i + 1) * self.dim;
            self.open.push(&keys[own.clone()], &values[own]);
            if self.len >= SINKS {
                for query in queries.chunks_exact(self.dim).skip(i).step_by(n) {
                    self.queries.0.iter_mut().zip(query).for_each(|(sum, q)| *sum += q * q);
                    self.queries.1 += 1.0;
                }
            }
            self.len += 1;
        }
    }

    fn close(&mut self, pairs: usize) {
        let [keys, values] = self.open.vectors();
        self.open.clear();
        let values = transformed(&values, self.dim);
        if self.encoder.is_new() {
            self.sinks = [&keys, &values].map(|vectors| vectors[..SINKS * self.dim].to_vec());
        }
        let (squares, queries) = (&self.queries.0[..], self.queries.1);
        self.blocks.push_back(self.encoder.close(FullBlock { keys: &keys, values: &values, squares, queries, pairs }));
    }

    /// Drops the blocks before `token`.
    pub(in crate::kv) fn drop_before(&mut self, token: usize) {
        while (self.dropped + 1) * BLOCK <= token && self.blocks.pop_front().is_some() {
            self.dropped += 1;
            self.sinks = [const { Vec::new() }; 2];
        }
    }

    /// A block that was not dropped.
    pub(in crate::kv) fn block(&self, block: usize) -> Option<Block<'_>> {
        let i = block.checked_sub(self.dropped)?;
        let Some((keys, values)) = self.blocks.get(i) else {
            return (i == self.blocks.len()).then_some(Block::Open(&self.open));
        };
        let sinks = [0, 1].map(|which| if block == 0 { &self.sinks[which][..] } else { &[] });
        Some(Block::Closed(ClosedBlock { keys, values, base: self.encoder.base(), sinks }))
    }
}
