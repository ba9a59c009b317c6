//! Bytes as a prompts file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qins_fuzz::{prompts::run, start};

fuzz_target!(init: start("prompts", run), |bytes: &[u8]| {
    run(bytes);
});
