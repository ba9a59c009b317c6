//! The coded keys and values of one head.

use std::collections::VecDeque;

use half::f16;

use super::{
    BLOCK, BlockEncoder, CodedBits, FullBlock, SINKS,
    keys::KeyBlock,
    values::{ValueBlock, transformed},
};
use crate::{
    kernel::{Planes, Simd, per_planes},
    kv::Rotations,
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
    /// The tokens after the closed blocks, `[n, dim]` each: at most a block.
    open: [Vec<f32>; 2],
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
            open: [const { Vec::new() }; 2],
            queries: (vec![0.0; dim], 0.0),
        }
    }

    pub(in crate::kv) fn len(&self) -> usize {
        self.len
    }

    pub(in crate::kv) fn bytes(&self) -> usize {
        let blocks = self.blocks.iter().map(|(keys, values)| keys.bytes() + values.bytes());
        let plain: usize = self.sinks.iter().chain(&self.open).map(Vec::len).sum();
        blocks.sum::<usize>() + size_of::<f32>() * plain + size_of_val(self.encoder.base())
    }

    /// Appends keys, before their rotation, and values, `[n, dim]`, and what their queries, `[group·n, dim]`, say of the channels.
    ///
    /// A full block is closed when the next token comes: its own queries attend to it as it was.
    pub(in crate::kv) fn append(&mut self, keys: &[f32], values: &[f32], queries: &[f32], pairs: usize) {
        let n = keys.len() / self.dim;
        for i in 0..n {
            if self.open[0].len() == BLOCK * self.dim {
                self.close(pairs);
            }
            let own = i * self.dim..(i + 1) * self.dim;
            self.open[0].extend_from_slice(&keys[own.clone()]);
            self.open[1].extend_from_slice(&values[own]);
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
        let [keys, values] = self.open.each_mut().map(std::mem::take);
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

    /// Whether a block is closed.
    pub(in crate::kv) fn is_closed(&self, block: usize) -> bool {
        block < self.dropped + self.blocks.len()
    }

    /// Keys of a closed block, rotated by their places in it: `[dim, BLOCK]`.
    pub(in crate::kv) fn read_keys(&self, block: usize, rotations: Option<&Rotations>, out: &mut [f32]) {
        if let Some((keys, _)) = self.closed(block) {
            read_keys(Simd::get(), keys, self.encoder.base(), self.sinks(block, 0), rotations, out);
        }
    }

    /// Values of a closed block, transformed: `[BLOCK, dim]`.
    pub(in crate::kv) fn read_values(&self, block: usize, out: &mut [f32]) {
        if let Some((_, values)) = self.closed(block) {
            read_values(Simd::get(), values, self.dim, out);
            let sinks = self.sinks(block, 1);
            out[..sinks.len()].copy_from_slice(sinks);
        }
    }

    fn closed(&self, block: usize) -> Option<&(KeyBlock, ValueBlock)> {
        block.checked_sub(self.dropped).and_then(|i| self.blocks.get(i))
    }

    fn sinks(&self, block: usize, which: usize) -> &[f32] {
        if block == 0 { &self.sinks[which] } else { &[] }
    }

    /// Keys and values of the first `n` tokens that are not in closed blocks, `[n, dim]`, as they came.
    pub(in crate::kv) fn open(&self, n: usize) -> [&[f32]; 2] {
        self.open.each_ref().map(|open| &open[..n * self.dim])
    }
}

per_planes! {
    fn read_keys(
        block: &KeyBlock,
        base: &[f16],
        sinks: &[f32],
        rotations: Option<&Rotations>,
        out: &mut [f32],
    ) = read_keys_inlined
}

#[inline(always)]
fn read_keys_inlined(
    reader: impl Planes,
    block: &KeyBlock,
    base: &[f16],
    sinks: &[f32],
    rotations: Option<&Rotations>,
    out: &mut [f32],
) {
    block.read(reader, base, out);
    for (token, sink) in sinks.chunks_exact(base.len()).enumerate() {
        out.iter_mut().skip(token).step_by(BLOCK).zip(sink).for_each(|(x, sink)| *x = *sink);
    }
    if let Some(rotations) = rotations {
        rotations.rotate_block(out);
    }
}

per_planes! {
    fn read_values(block: &ValueBlock, dim: usize, out: &mut [f32]) = read_values_inlined
}

#[inline(always)]
fn read_values_inlined(reader: impl Planes, block: &ValueBlock, dim: usize, out: &mut [f32]) {
    block.read(reader, dim, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernel::Simd,
        kv::{
            coded::{
                keys::base,
                trellis::{LANES, Search, about_error, find_codes},
            },
            products::{add_values, scores_by_channel, scores_by_token},
        },
    };

    const DIM: usize = 80;

    fn numbers(n: usize) -> Vec<f32> {
        let mut state = 7_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next() + next() * next()).collect()
    }

    #[test]
    fn every_instruction_set_gives_the_bits_of_the_portable_code() {
        let x = numbers(4 * BLOCK * DIM);
        let (block, others) = x.split_at(BLOCK * DIM);
        let rotations = Rotations::new(&[1.0, 0.3, 0.01], 1.0);
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let computed = |simd: Simd| {
            let mut all = Vec::new();
            let columns: [[f32; LANES]; BLOCK] =
                std::array::from_fn(|i| std::array::from_fn(|lane| block[i * LANES + lane] / 2.0));
            let weights = columns.map(|x| x.map(f32::abs));
            let search = || Search { numbers: &columns, weights: &weights, bits: [4; LANES] };
            let (mut errors, mut codes) = ([0.0; LANES], [[0; LANES]; BLOCK]);
            about_error(simd, search(), &mut errors);
            find_codes(simd, search(), &mut codes);
            all.push(bits(&errors));
            all.push(codes.iter().flatten().map(|code| u32::from(*code)).collect());
            for width in [2, 3, 4, 5, 8] {
                let mean = base(block, DIM);
                let keys = KeyBlock::close(block, &mean, &[1.0; DIM], width, SINKS);
                let values = ValueBlock::close(block, DIM, width, SINKS);
                let mut out = vec![0.0; BLOCK * DIM];
                read_keys(simd, &keys, &mean, &block[..SINKS * DIM], Some(&rotations), &mut out);
                all.push(bits(&out));
                read_values(simd, &values, DIM, &mut out);
                all.push(bits(&out));
            }
            let (mut scores, mut out) = (vec![0.0; 3 * BLOCK], others[..3 * DIM].to_vec());
            scores_by_channel(simd, &mut scores, &others[..3 * DIM], block);
            all.push(bits(&scores));
            scores_by_token(simd, &mut scores, &others[..3 * DIM], block, DIM);
            all.push(bits(&scores));
            add_values(simd, &mut out, &scores, block, DIM, BLOCK);
            all.push(bits(&out));
            all
        };
        let expected = computed(Simd::Portable);
        for simd in Simd::ALL.into_iter().filter(|simd| simd.is_available()) {
            assert_eq!(computed(simd), expected, "{simd}");
        }
        // Control: other numbers have other bits.
        assert_ne!(expected[2], expected[4]);
    }
}
