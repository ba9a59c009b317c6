//! Bytes as a shard.

use crate::model::{config_of, converted, files, kinds, read, signed};

/// Reads them as they are, and with the checksums that they should have.
pub fn run(bytes: &[u8]) -> bool {
    let read = |shard: &[u8]| read(files(config_of(shard).to_string().as_bytes(), shard));
    let right = signed(bytes).is_some_and(|shard| read(&shard));
    read(bytes) && right
}

/// A matrix of each form, and two together.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let kinds = kinds();
    let alone = kinds.iter().map(|kind| (kind.module.clone(), converted(std::slice::from_ref(kind)).1));
    alone.chain([("two".to_owned(), converted(&kinds[..2]).1)]).collect()
}
