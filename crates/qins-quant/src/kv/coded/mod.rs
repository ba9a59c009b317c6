//! Keys and values in 3 to 8 bits: blocks of [`BLOCK`] tokens, closed once they are full.
//!
//! Keys are stored before their rotation, where a channel keeps its mean and its range over many tokens; each channel has a
//! scale and an offset for a block, and as many bits as its error counts. Values are stored after a Hadamard transform over
//! the head, which spreads outliers over all channels, with a scale for each token and [`GROUP`] channels. Codes of both are those of
//! a [trellis], along the tokens of a channel. The first [`SINKS`] tokens, to which most queries attend, stay as they are.

mod bits;
mod blocks;
mod closed;
mod codes;
mod hadamard;
mod head;
mod keys;
mod layout;
mod scale;
mod trellis;
mod values;

pub use blocks::{BlockEncoder, FullBlock};
pub(super) use closed::ClosedBlock;
pub(super) use hadamard::hadamard;
pub(super) use head::CodedHead;
pub use layout::BlockLayout;
pub(super) use scale::MOST_SCALE;

/// Tokens of a block.
pub const BLOCK: usize = 64;
/// Channels of a value that share a scale.
pub const GROUP: usize = 32;
/// First tokens that stay plain.
pub const SINKS: usize = 4;

/// Bits of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CodedBits {
    /// Of a number of a key, on average over the channels.
    pub keys: u8,
    /// Of a number of a value.
    pub values: u8,
}
