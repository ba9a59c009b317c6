//! The entropy coder by itself, for the fuzzer: through a checkpoint it would reach few of the types and shapes.

use crate::{Element, EncodeError, entropy};

/// The maximum ratio of decoded bytes to coded bytes.
pub const MOST_EXPANSION: usize = entropy::MOST_EXPANSION;

/// Codes rows of `width` numbers; returns the stream and the lengths of its blocks.
///
/// # Errors
/// When a block is too large for the coder.
pub fn code(bytes: &[u8], element: Element, width: usize) -> Result<(Vec<u8>, Vec<u32>), EncodeError> {
    entropy::code(bytes, element, width).map(|coded| (coded.stream, coded.blocks))
}

/// Decodes `rows` rows of `width` numbers.
///
/// # Errors
/// When the blocks are not those of such rows.
pub fn decode(stream: &[u8], blocks: &[u32], element: Element, shape: [usize; 2]) -> Result<Vec<u8>, String> {
    entropy::decode(stream, blocks, element, shape)
}
