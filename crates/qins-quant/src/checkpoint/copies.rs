//! Tensors that are stored twice, such as a head beside the embedding that it is tied to.

use super::{Checkpoint, Plain};
use crate::Error;

/// Elements compared at a time.
const PIECE: usize = 1 << 16;

impl Checkpoint {
    /// Checks that the plain tensor `copy` has the weights of `original`, whatever the type of each.
    ///
    /// # Errors
    /// Naming both, when they differ, or when one of them is missing or not of a floating-point type.
    pub fn expect_copy(&self, copy: &str, original: &str) -> Result<(), Error> {
        let error = |found: String| {
            Error::tensor(self.path_of(copy), copy, format!("expected the weights of `{original}`, found {found}"))
        };
        if original.strip_suffix(".weight").is_some_and(|module| self.is_encoded(module)) {
            return Err(error("that one encoded, and this one beside it".to_owned()));
        }
        let [a, b] = [self.plain(copy)?, self.plain(original)?];
        if a.shape != b.shape {
            return Err(error(format!("shape {:?} instead of {:?}", a.shape, b.shape)));
        }
        match first_difference(&a, &b) {
            None => Ok(()),
            Some((index, found, expected)) => Err(error(format!("{found} instead of {expected} at element {index}"))),
        }
    }
}

/// The first element of other bits, and its two values.
fn first_difference(a: &Plain<'_>, b: &Plain<'_>) -> Option<(usize, f32, f32)> {
    if a.dtype == b.dtype && a.bytes == b.bytes {
        return None;
    }
    let pieces =
        [a, b].map(|plain| plain.bytes.chunks(PIECE * plain.dtype.size()).map(|bytes| plain.dtype.widen(bytes)));
    let [a, b] = pieces.map(Iterator::flatten);
    a.zip(b).enumerate().find(|(_, (a, b))| a.to_bits() != b.to_bits()).map(|(i, (a, b))| (i, a, b))
}
