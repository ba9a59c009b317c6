//! Bytes as a shard.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qins_fuzz::{header::run, start};

fuzz_target!(init: start("header", run), |bytes: &[u8]| {
    run(bytes);
});
