//! Closed blocks as words, for kernels of other devices.

use super::{BLOCK, CodedBits, GROUP, SINKS};

/// The words of a head and of its blocks, 32 bits each.
///
/// Of the head: what its keys are coded around, `[dim]`, then the keys and the values of the sinks, `[SINKS, dim]` each, all `f32`. Of a block,
/// one part after the other:
///
/// 1. a word for each channel of the keys: from the lowest bit on its scale in 8 bits, its offset in 8, its bits less one in 3, and in 13
///    the number of planes before its own;
/// 2. the planes of the keys, two words each, one for 32 tokens: for each channel as many as it has bits; of bytes, four to a word;
/// 3. the scales of the values, a byte each: `[BLOCK, groups]`;
/// 4. the planes of the values, a word each: `[groups, BLOCK, bits]`; of bytes, four to a word.
///
/// A scale's byte is the upper byte of a positive `f16`, and an offset is in sixteenths of the scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockLayout {
    /// Bits of keys and values.
    pub bits: CodedBits,
    /// Elements of a vector, at most [`MOST_DIM`](Self::MOST_DIM).
    pub dim: usize,
}

impl BlockLayout {
    /// The most elements of a vector whose planes can be counted: eight planes each, in 13 bits.
    pub const MOST_DIM: usize = 1023;

    /// Words of the head.
    pub const fn head(self) -> usize {
        (1 + 2 * SINKS) * self.dim
    }

    /// Words of a block before the planes of the keys.
    pub const fn key_planes(self) -> usize {
        self.dim
    }

    /// Words of a block before the scales of the values.
    pub const fn value_scales(self) -> usize {
        self.key_planes() + 2 * self.bits.keys as usize * self.dim
    }

    /// Words of a block before the planes of the values.
    pub const fn value_planes(self) -> usize {
        self.value_scales() + BLOCK * self.groups() / 4
    }

    /// Words of a block.
    pub const fn block(self) -> usize {
        self.value_planes() + self.groups() * BLOCK * self.bits.values as usize
    }

    /// Scales of a value.
    pub const fn groups(self) -> usize {
        self.dim.div_ceil(GROUP)
    }
}
