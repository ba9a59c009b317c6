//! Fuzz targets for every reader of files, independent of the fuzzer.
//!
//! Each module is a target: `run` takes any bytes, panics if a reader breaks its contract, and returns whether
//! they were read to the end; `seeds` makes valid inputs. `cargo xtask fuzz` starts from `corpus/`, whose seeds
//! `cargo run --manifest-path fuzz/Cargo.toml --bin seeds` rewrites, for example after a change of the format.

pub mod block;
pub mod config;
pub mod describe;
pub mod header;
pub mod model;
pub mod packed;
pub mod prompts;
pub mod template;
pub mod text;
pub mod tokenizer;

use std::{fs, path::PathBuf};

/// The folder of a target's initial inputs.
pub fn corpus(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// The name prefix of inputs that `seeds` wrote; the others were found by fuzzing.
pub const SEED: &str = "seed-";

/// Prepares a target.
///
/// # Panics
/// When the seeds are not valid any more, since fuzzing would start without useful inputs.
pub fn start(target: &str, run: impl Fn(&[u8]) -> bool) {
    // In the fuzzer's own thread, since passing small matrices to others would take most of the time.
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global().expect("the first pool");
    let files = fs::read_dir(corpus(target)).expect("a folder of inputs").map(|file| file.expect("an input").path());
    let seeds: Vec<_> =
        files.filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(SEED))).collect();
    assert!(!seeds.is_empty(), "{target}: no seeds; write them with --bin seeds");
    for path in seeds {
        assert!(
            run(&fs::read(&path).expect("a readable input")),
            "{}: a stale seed; write them anew with --bin seeds",
            path.display()
        );
    }
}
