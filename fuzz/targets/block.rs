//! Bytes as an entropy-coded part.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qins_fuzz::{block::run, start};

fuzz_target!(init: start("block", run), |bytes: &[u8]| {
    run(bytes);
});
