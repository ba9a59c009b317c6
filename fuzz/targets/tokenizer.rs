//! Bytes as a `tokenizer.json`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qins_fuzz::{start, tokenizer::run};

fuzz_target!(init: start("tokenizer", run), |bytes: &[u8]| {
    run(bytes);
});
