//! The KV cache: keys and values of a model's tokens, as floats or in 3 to 8 bits, and attention that decodes them as it reads.
//!
//! All of this is in memory, for one sequence; nothing here is a file format. Nothing is calibrated: all that the codes depend on comes
//! from the tokens and queries so far.

mod attention;
mod block;
mod coded;
mod floats;
mod heads;
mod products;
mod rotations;
mod scheme;
mod softmax;

pub use attention::AttentionSpan;
pub use coded::{BLOCK, BlockEncoder, BlockLayout, CodedBits, FullBlock, GROUP, SINKS};
pub use heads::{Beyond, Heads, NewTokens};
pub use rotations::Rotations;
pub use scheme::{KvForm, KvScheme};

/// Numbers distributed about as keys and values are, from a linear congruential generator.
#[cfg(test)]
pub(crate) fn numbers(n: usize) -> Vec<f32> {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next() + next() * next()).collect()
}
