//! Bytes as a `config.json` with the description of a model.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qins_fuzz::{describe::run, start};

fuzz_target!(init: start("describe", run), |bytes: &[u8]| {
    run(bytes);
});
