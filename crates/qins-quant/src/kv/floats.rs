//! Keys and values as floats of a type.

use std::{collections::VecDeque, ops::Range};

use half::{bf16, f16};

use super::{BLOCK, GROUP, Rotations, block::Block};
use crate::{FloatDtype, dtype::widen_half, kernel::fetch_part};

impl FloatDtype {
    /// The largest magnitude of a number.
    pub(super) fn most(self) -> f32 {
        match self {
            Self::F32 => f32::MAX,
            Self::F16 => f16::MAX.to_f32(),
            Self::Bf16 => bf16::MAX.to_f32(),
        }
    }
}

/// The keys, after their rotation, and values of a head.
#[derive(Clone, Debug)]
pub(super) struct FloatHead {
    dtype: FloatDtype,
    dim: usize,
    /// The number of blocks that were dropped.
    dropped: usize,
    blocks: VecDeque<FloatBlock>,
}

impl FloatHead {
    pub(super) fn new(dtype: FloatDtype, dim: usize) -> Self {
        Self { dtype, dim, dropped: 0, blocks: VecDeque::new() }
    }

    /// Tokens in all, those that were dropped included.
    pub(super) fn len(&self) -> usize {
        let kept = self.blocks.len().saturating_sub(1) * BLOCK + self.blocks.back().map_or(0, FloatBlock::len);
        self.dropped * BLOCK + kept
    }

    pub(super) fn bytes(&self) -> usize {
        self.blocks.iter().map(FloatBlock::bytes).sum()
    }

    /// Appends keys, before their rotation, and values, `[n, dim]`.
    pub(super) fn append(&mut self, keys: &[f32], values: &[f32], rotations: Option<&Rotations>) {
        let rotated = rotations.map(|rotations| {
            let mut keys = keys.to_vec();
            rotations.rotate(&mut keys, self.dim, self.len());
            keys
        });
        let keys = rotated.as_deref().unwrap_or(keys);
        for (key, value) in keys.chunks_exact(self.dim).zip(values.chunks_exact(self.dim)) {
            if self.blocks.back().is_none_or(|block| block.len() == BLOCK) {
                self.blocks.push_back(FloatBlock::new(self.dtype, self.dim));
            }
            self.blocks.back_mut().into_iter().for_each(|block| block.push(key, value));
        }
    }

    /// Drops the blocks before `token`.
    pub(super) fn drop_before(&mut self, token: usize) {
        while (self.dropped + 1) * BLOCK <= token && self.blocks.pop_front().is_some() {
            self.dropped += 1;
        }
    }

    /// A block that was not dropped.
    pub(super) fn block(&self, block: usize) -> Option<Block<'_>> {
        block.checked_sub(self.dropped).and_then(|i| self.blocks.get(i)).map(Block::Rotated)
    }
}

/// At most [`BLOCK`] tokens.
#[derive(Clone, Debug)]
pub(super) struct FloatBlock {
    len: usize,
    dim: usize,
    /// `[dim, BLOCK]`.
    keys: Numbers,
    /// [`GROUP`] channels after one another, of each `[BLOCK, GROUP]`.
    values: Numbers,
}

impl FloatBlock {
    pub(super) fn new(dtype: FloatDtype, dim: usize) -> Self {
        let zeros = || Numbers::zeros(dtype, BLOCK * dim);
        Self { len: 0, dim, keys: zeros(), values: zeros() }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    /// Bytes in use.
    pub(super) fn bytes(&self) -> usize {
        (self.keys.size() + self.values.size()) * self.len * self.dim
    }

    /// Appends a token to a block that is not full.
    pub(super) fn push(&mut self, key: &[f32], value: &[f32]) {
        self.keys.set((0..self.dim).map(|c| c * BLOCK + self.len), key);
        for (group, value) in value.chunks(GROUP).enumerate() {
            self.values.set(group * GROUP * BLOCK + self.len * value.len().., value);
        }
        self.len += 1;
    }

    /// Removes all tokens.
    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// Keys and values of its tokens, `[len, dim]` each.
    pub(super) fn vectors(&self) -> [Vec<f32>; 2] {
        let (mut channels, mut values) = (vec![[0.0; BLOCK]; self.dim], vec![0.0; self.len * self.dim]);
        self.keys(0, &mut channels);
        for first in (0..self.dim).step_by(GROUP) {
            let mut tile = [[0.0; GROUP]; BLOCK];
            self.values(first, &mut tile[..self.len]);
            let own = first..self.dim.min(first + GROUP);
            for (value, tile) in values.chunks_exact_mut(self.dim).zip(&tile) {
                value[own.clone()].copy_from_slice(&tile[..own.len()]);
            }
        }
        let keys = (0..self.len).flat_map(|token| channels.iter().map(move |channel| channel[token]));
        [keys.collect(), values]
    }

    /// As [`Block::stored_keys`].
    #[inline(always)]
    pub(super) fn stored_keys(&self, first: usize, n: usize) -> Option<&[[f32; BLOCK]]> {
        match &self.keys {
            Numbers::F32(all) => Some(&all.as_chunks().0[first..first + n]),
            Numbers::F16(_) | Numbers::Bf16(_) => None,
        }
    }

    /// As [`Block::keys`].
    #[inline(always)]
    pub(super) fn keys(&self, first: usize, out: &mut [[f32; BLOCK]]) {
        self.keys.read(first * BLOCK..(first + out.len()) * BLOCK, out.as_flattened_mut());
    }

    /// As [`Block::values`].
    #[inline(always)]
    pub(super) fn values(&self, first: usize, out: &mut [[f32; GROUP]]) {
        let width = GROUP.min(self.dim - first);
        for (token, out) in out.iter_mut().enumerate() {
            self.values.read_group(first * BLOCK + token * width, width, out);
        }
    }

    /// As [`Block::stored_values`].
    #[inline(always)]
    pub(super) fn stored_values(&self, first: usize, n: usize) -> Option<&[[f32; GROUP]]> {
        match &self.values {
            Numbers::F32(all) if first + GROUP <= self.dim => Some(all[first * BLOCK..][..n * GROUP].as_chunks().0),
            Numbers::F32(_) | Numbers::F16(_) | Numbers::Bf16(_) => None,
        }
    }

    /// As [`Block::fetch_keys`].
    #[inline(always)]
    pub(super) fn fetch_keys(&self, first: usize, n: usize) {
        self.keys.fetch(first, n, self.dim);
    }

    /// As [`Block::fetch_values`].
    #[inline(always)]
    pub(super) fn fetch_values(&self, first: usize, n: usize) {
        self.values.fetch(first, n, self.dim);
    }
}

/// Numbers of a type.
#[derive(Clone, Debug)]
enum Numbers {
    F32(Vec<f32>),
    F16(Vec<u16>),
    Bf16(Vec<u16>),
}

impl Numbers {
    fn zeros(dtype: FloatDtype, n: usize) -> Self {
        match dtype {
            FloatDtype::F32 => Self::F32(vec![0.0; n]),
            FloatDtype::F16 => Self::F16(vec![0; n]),
            FloatDtype::Bf16 => Self::Bf16(vec![0; n]),
        }
    }

    /// Bytes of a number.
    fn size(&self) -> usize {
        match self {
            Self::F32(_) => size_of::<f32>(),
            Self::F16(_) | Self::Bf16(_) => size_of::<u16>(),
        }
    }

    fn set(&mut self, places: impl Iterator<Item = usize>, numbers: &[f32]) {
        let places = places.zip(numbers);
        match self {
            Self::F32(all) => places.for_each(|(i, x)| all[i] = *x),
            Self::F16(all) => places.for_each(|(i, x)| all[i] = f16::from_f32(*x).to_bits()),
            Self::Bf16(all) => places.for_each(|(i, x)| all[i] = bf16::from_f32(*x).to_bits()),
        }
    }

    #[inline(always)]
    fn read(&self, which: Range<usize>, out: &mut [f32]) {
        match self {
            Self::F32(all) => out.copy_from_slice(&all[which]),
            Self::F16(all) => widen(&all[which], out, widen_half::<false>),
            Self::Bf16(all) => widen(&all[which], out, widen_half::<true>),
        }
    }

    /// Fetches the memory of `n` channels of `dim` from `first` on.
    #[inline(always)]
    fn fetch(&self, first: usize, n: usize, dim: usize) {
        match self {
            Self::F32(all) => fetch_part(all, first, n, dim),
            Self::F16(all) | Self::Bf16(all) => fetch_part(all, first, n, dim),
        }
    }

    /// `width` numbers from `start` on. Those of a whole group are so many that the compiler uses whole vectors.
    #[inline(always)]
    fn read_group(&self, start: usize, width: usize, out: &mut [f32; GROUP]) {
        if width < GROUP {
            return self.read(start..start + width, &mut out[..width]);
        }
        let group = start..start + GROUP;
        match self {
            Self::F32(all) => out.copy_from_slice(&all[group]),
            Self::F16(all) => widen_group(&all[group], out, widen_half::<false>),
            Self::Bf16(all) => widen_group(&all[group], out, widen_half::<true>),
        }
    }
}

#[inline(always)]
fn widen(words: &[u16], out: &mut [f32], widen: impl Fn(u16) -> f32) {
    for (x, word) in out.iter_mut().zip(words) {
        *x = widen(*word);
    }
}

#[inline(always)]
fn widen_group(words: &[u16], out: &mut [f32; GROUP], widen: impl Fn(u16) -> f32) {
    let words: &[u16; GROUP] = words.try_into().unwrap_or(&[0; GROUP]);
    for i in 0..GROUP {
        out[i] = widen(words[i]);
    }
}
