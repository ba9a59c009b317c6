//! Tests across crates.

mod common;
mod phi3;
