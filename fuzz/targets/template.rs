//! Bytes as a `tokenizer_config.json` with a chat template.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qins_fuzz::{start, template::run};

fuzz_target!(init: start("template", run), |bytes: &[u8]| {
    run(bytes);
});
