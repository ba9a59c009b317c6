//! A closed block, decoded some channels at a time.

use half::f16;

use super::{BLOCK, GROUP, keys::KeyBlock, values::ValueBlock};
use crate::kernel::Planes;

/// The codes of a block, and what else it takes to read them.
#[derive(Clone, Copy)]
pub(in crate::kv) struct ClosedBlock<'a> {
    pub(super) keys: &'a KeyBlock,
    pub(super) values: &'a ValueBlock,
    /// What keys are coded around: `[dim]`.
    pub(super) base: &'a [f16],
    /// The first tokens, which are plain, of keys and of transformed values: `[n, dim]` each.
    pub(super) sinks: [&'a [f32]; 2],
}

impl ClosedBlock<'_> {
    pub(in crate::kv) fn dim(self) -> usize {
        self.base.len()
    }

    /// Channels of keys from `first` on.
    #[inline(always)]
    pub(in crate::kv) fn keys(self, reader: impl Planes, first: usize, out: &mut [[f32; BLOCK]]) {
        self.keys.read(reader, self.base, first, out);
        for (token, sink) in self.sinks[0].chunks_exact(self.dim()).enumerate() {
            out.iter_mut().zip(&sink[first..]).for_each(|(out, x)| out[token] = *x);
        }
    }

    /// Channels of transformed values from `first` on, a multiple of [`GROUP`].
    #[inline(always)]
    pub(in crate::kv) fn values(self, reader: impl Planes, first: usize, out: &mut [[f32; GROUP]]) {
        self.values.read(reader, first / GROUP, out);
        for (out, sink) in out.iter_mut().zip(self.sinks[1].chunks_exact(self.dim())) {
            out.iter_mut().zip(&sink[first..]).for_each(|(out, x)| *out = *x);
        }
    }

    /// As [`Block::fetch_keys`](crate::kv::block::Block::fetch_keys).
    #[inline(always)]
    pub(in crate::kv) fn fetch_keys(self, first: usize, n: usize) {
        self.keys.fetch(first, n);
    }

    /// As [`Block::fetch_values`](crate::kv::block::Block::fetch_values).
    #[inline(always)]
    pub(in crate::kv) fn fetch_values(self, first: usize, n: usize) {
        self.values.fetch(first, n, self.dim());
    }
}
