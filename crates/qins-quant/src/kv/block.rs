//! A block of tokens as attention reads it: some channels of its keys or values at a time.

use super::{BLOCK, GROUP, coded::ClosedBlock, floats::FloatBlock};
use crate::kernel::Planes;

/// The keys and values of [`BLOCK`] tokens of one head.
#[derive(Clone, Copy)]
pub(super) enum Block<'a> {
    /// Floats, with keys after their rotation.
    Rotated(&'a FloatBlock),
    /// Floats, with keys before their rotation.
    Open(&'a FloatBlock),
    /// Codes, of keys before their rotation and values after their transform.
    Closed(ClosedBlock<'a>),
}

impl<'a> Block<'a> {
    /// Elements of a key, and of a value.
    pub(super) fn dim(self) -> usize {
        match self {
            Self::Rotated(block) | Self::Open(block) => block.dim(),
            Self::Closed(block) => block.dim(),
        }
    }

    /// Whether its keys are still to be rotated.
    pub(super) fn is_unrotated(self) -> bool {
        match self {
            Self::Rotated(_) => false,
            Self::Open(_) | Self::Closed(_) => true,
        }
    }

    /// Whether its values are Hadamard-transformed.
    pub(super) fn is_transformed(self) -> bool {
        matches!(self, Self::Closed(_))
    }

    /// Channels of keys from `first` on, a number for each token; arbitrary beyond the tokens it has.
    #[inline(always)]
    pub(super) fn keys(self, reader: impl Planes, first: usize, out: &mut [[f32; BLOCK]]) {
        match self {
            Self::Rotated(block) | Self::Open(block) => block.keys(first, out),
            Self::Closed(block) => block.keys(reader, first, out),
        }
    }

    /// `n` channels of keys from `first` on, if they are stored as numbers in `f32` after their rotation.
    #[inline(always)]
    pub(super) fn stored_keys(self, first: usize, n: usize) -> Option<&'a [[f32; BLOCK]]> {
        match self {
            Self::Rotated(block) => block.stored_keys(first, n),
            Self::Open(_) | Self::Closed(_) => None,
        }
    }

    /// Channels of values from `first` on, a multiple of [`GROUP`], of the first `out.len()` tokens; arbitrary beyond the last channel.
    #[inline(always)]
    pub(super) fn values(self, reader: impl Planes, first: usize, out: &mut [[f32; GROUP]]) {
        match self {
            Self::Rotated(block) | Self::Open(block) => block.values(first, out),
            Self::Closed(block) => block.values(reader, first, out),
        }
    }

    /// The group of channels of values from `first` on, a multiple of [`GROUP`], of the first `n` tokens, if it is whole and stored in `f32`.
    #[inline(always)]
    pub(super) fn stored_values(self, first: usize, n: usize) -> Option<&'a [[f32; GROUP]]> {
        match self {
            Self::Rotated(block) | Self::Open(block) => block.stored_values(first, n),
            Self::Closed(_) => None,
        }
    }

    /// Fetches the memory of `n` channels of keys from `first` on, for later.
    #[inline(always)]
    pub(super) fn fetch_keys(self, first: usize, n: usize) {
        match self {
            Self::Rotated(block) | Self::Open(block) => block.fetch_keys(first, n),
            Self::Closed(block) => block.fetch_keys(first, n),
        }
    }

    /// Fetches the memory of `n` channels of values from `first` on, for later.
    #[inline(always)]
    pub(super) fn fetch_values(self, first: usize, n: usize) {
        match self {
            Self::Rotated(block) | Self::Open(block) => block.fetch_values(first, n),
            Self::Closed(block) => block.fetch_values(first, n),
        }
    }
}
