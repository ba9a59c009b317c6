//! How many threads may be started, however the number is given.

use std::{env, thread};

use qins_quant::kernel::Simd;

/// Environment variables from which libraries take a number of threads, and whether they read an empty one as unset: Rayon (all
/// arithmetic, and the tokenizer), its older name, and Tokio (Xet, when a model is fetched). The one of `ndarray`'s products,
/// `MATMUL_NUM_THREADS`, is never more than 4.
const VARIABLES: [(&str, bool); 3] =
    [("RAYON_NUM_THREADS", true), ("RAYON_RS_NUM_CPUS", true), ("TOKIO_WORKER_THREADS", false)];

/// The most threads: four per core, and enough to try many on any machine.
fn most() -> usize {
    thread::available_parallelism().map_or(1, usize::from).saturating_mul(4).max(64)
}

/// A number of threads within the bound.
pub(crate) fn parse_threads(text: &str) -> Result<usize, String> {
    let most = most();
    let threads = text.parse().ok().filter(|threads| (1..=most).contains(threads));
    threads.ok_or_else(|| format!("expected 1 to {most} threads, found `{text}`"))
}

/// Checks the environment variables that libraries read, some of which would start any number of threads, and `QINS_SIMD`.
pub(crate) fn check_environment() -> Result<(), String> {
    Simd::chosen()?;
    for (name, empty_is_unset) in VARIABLES {
        let Some(value) = env::var_os(name) else { continue };
        if !(value.is_empty() && empty_is_unset) {
            parse_threads(&value.to_string_lossy()).map_err(|e| format!("{name}: {e}"))?;
        }
    }
    Ok(())
}
