//! Bytes as the parts of a matrix.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qins_fuzz::{packed::run, start};

fuzz_target!(init: start("packed", run), |bytes: &[u8]| {
    run(bytes);
});
