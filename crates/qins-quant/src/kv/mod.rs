//! The KV cache: keys and values of a model's tokens, as floats or in 3 to 8 bits, and attention that decodes them as it reads.
//!
//! All of this is in memory, for one sequence; nothing here is a file format. Nothing is calibrated: all that the codes depend on comes
//! from the tokens and queries so far.

mod attention;
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
