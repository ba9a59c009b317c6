//! Hostile bytes for every reader of files: what they do with an input, apart from the fuzzer that makes it.
//!
//! Each module here is a target: `run` takes any bytes, panics where a reader breaks what it promises, and says whether
//! they were read to the end; `seeds` makes inputs that are. `cargo xtask fuzz` runs them from `corpus/`, whose seeds
//! `cargo run --manifest-path fuzz/Cargo.toml --bin seeds` writes anew: after a change of the format, for one.

pub mod block;
pub mod config;
pub mod header;
pub mod model;
pub mod packed;

use std::{fs, path::PathBuf};

/// Where the inputs of a target lie that fuzzing begins with.
pub fn corpus(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// How the names of inputs begin that `seeds` wrote; the others were found by fuzzing.
pub const SEED: &str = "seed-";

/// Prepares a target.
///
/// # Panics
/// When the seeds are not read to the end any more: fuzzing would begin with nothing, and find as much.
pub fn start(target: &str, run: impl Fn(&[u8]) -> bool) {
    // In the fuzzer's own thread: handing small matrices to others would take most of the time.
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
