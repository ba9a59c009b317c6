//! The entropy coder by itself, for the fuzzer: through a checkpoint it would meet few of the types and shapes.

use crate::{Element, EncodeError, entropy};

/// How many times its own bytes a stream may decode to.
pub const MOST_EXPANSION: usize = entropy::MOST_EXPANSION;

/// The stream of rows of `width` numbers, and the lengths of its blocks.
///
/// # Errors
/// When the coder gives up.
pub fn code(bytes: &[u8], element: Element, width: usize) -> Result<(Vec<u8>, Vec<u32>), EncodeError> {
    entropy::code(bytes, element, width).map(|coded| (coded.stream, coded.blocks))
}

/// The bytes of `rows` rows of `width` numbers each.
///
/// # Errors
/// When the blocks are not those of such rows.
pub fn decode(stream: &[u8], blocks: &[u32], element: Element, shape: [usize; 2]) -> Result<Vec<u8>, String> {
    entropy::decode(stream, blocks, element, shape)
}
