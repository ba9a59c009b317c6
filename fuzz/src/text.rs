//! Files of a model's text.

use std::{collections::BTreeMap, sync::Arc};

use qins_quant::checkpoint::Files;

/// A tokenizer of few tokens: words, and bytes for the rest.
pub const TOKENIZER: &str = include_str!("tokenizer.json");

/// These files in memory.
pub fn files(content: &[(&str, &[u8])]) -> Files {
    let file = |(name, bytes): &(&str, &[u8])| ((*name).to_owned(), Arc::from(*bytes));
    Files::Memory(Arc::new(content.iter().map(file).collect::<BTreeMap<_, _>>()))
}
