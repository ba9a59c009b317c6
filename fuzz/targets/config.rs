//! Bytes as `config.json`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qins_fuzz::{config::run, start};

fuzz_target!(init: start("config", run), |bytes: &[u8]| {
    run(bytes);
});
