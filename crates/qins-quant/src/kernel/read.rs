//! The memory bandwidth of this machine, which bounds every product with a single vector.

use std::{hint::black_box, time::Instant};

use rayon::prelude::*;

use super::{Simd, prefetch, simd::per_isa};

/// Bytes per task.
const TASK: usize = 1 << 20;

/// Reads all of `buffer` with all threads. The result depends on every word, so no read can be optimised away.
pub fn read(buffer: &[u64]) -> u64 {
    let simd = Simd::get();
    buffer.par_chunks(TASK / size_of::<u64>()).map(|words| sum(simd, words)).reduce(|| 0, u64::wrapping_add)
}

/// Bytes per second that all threads together read from a buffer much larger than the caches (256 MiB): the best of eight
/// attempts.
pub fn read_bandwidth() -> f64 {
    let buffer = vec![1_u64; (256 << 20) / size_of::<u64>()];
    let attempt = || {
        let start = Instant::now();
        black_box(read(black_box(&buffer)));
        size_of_val(&buffer[..]) as f64 / start.elapsed().as_secs_f64()
    };
    (0..8).map(|_| attempt()).fold(0.0, f64::max)
}

per_isa! {
    fn sum(words: &[u64]) -> u64 = sum_inlined
}

#[inline(always)]
fn sum_inlined(words: &[u64]) -> u64 {
    let (chunks, rest) = words.as_chunks::<64>();
    let mut lanes = [0_u64; 64];
    for chunk in chunks {
        for line in (0..size_of_val(chunk)).step_by(64) {
            prefetch::line(chunk.as_ptr().wrapping_byte_add(line));
        }
        for (lane, word) in lanes.iter_mut().zip(chunk) {
            *lane = lane.wrapping_add(*word);
        }
    }
    lanes.iter().chain(rest).fold(0, |sum, word| sum.wrapping_add(*word))
}
