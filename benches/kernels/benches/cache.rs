//! The KV cache of a layer: attention of one token over a long context, and appending a block of tokens, which encodes it.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use qins_quant::kv::{AttentionSpan, BLOCK, Heads, KvScheme, NewTokens, Rotations};
use rayon::prelude::*;

/// KV heads, query heads of each, and elements of a head: those of Llama 3's models of 1 B to 8 B.
const HEADS: usize = 8;
const GROUP: usize = 4;
const DIM: usize = 128;

const CONTEXT: usize = 8192;

/// Bytes that are read to have nothing else in the caches.
const OTHER: usize = 256 << 20;

/// Numbers distributed about as keys and values are: sums of four uniform ones, from a linear congruential generator.
fn numbers(n: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..n).map(|_| uniform() + uniform() + uniform() + uniform()).collect()
}

fn main() {
    let mut c = Criterion::default().configure_from_args();
    let frequencies: Vec<f32> = (0..DIM / 2).map(|i| 5e5_f32.powf(-(i as f32) / (DIM / 2) as f32)).collect();
    let mut rotations = Rotations::new(&frequencies, 1.0);
    rotations.extend(CONTEXT + BLOCK);
    let (keys, values, queries) =
        (numbers(HEADS * BLOCK * DIM), numbers(HEADS * BLOCK * DIM), numbers(HEADS * GROUP * BLOCK * DIM));
    let block = NewTokens { keys: &keys, values: &values, queries: &queries };
    let query = &queries[..HEADS * GROUP * DIM];
    let other = vec![1_u64; OTHER / 8];
    for scheme in KvScheme::ALL {
        let mut cache = Heads::new(scheme, HEADS, DIM);
        (0..CONTEXT / BLOCK).for_each(|_| cache.append(block, Some(&rotations)));
        let mut group = c.benchmark_group("cache");
        group.sampling_mode(SamplingMode::Flat).sample_size(20).measurement_time(Duration::from_secs(2));
        group.warm_up_time(Duration::from_millis(300));
        group.throughput(Throughput::Elements((2 * HEADS * DIM * CONTEXT) as u64));
        let span = AttentionSpan { start: CONTEXT - 1, n: 1, window: None, softcap: None };
        group.bench_function(BenchmarkId::new("attend", scheme), |b| {
            b.iter(|| cache.attend(black_box(query), span, Some(&rotations)));
        });
        // As between two tokens of a model, whose weights are read meanwhile.
        group.bench_function(BenchmarkId::new("attend from memory", scheme), |b| {
            b.iter_custom(|n| {
                let once = || {
                    // By all threads, so that none sleeps.
                    black_box(other.par_chunks(1 << 17).map(|part| part.iter().step_by(8).sum::<u64>()).sum::<u64>());
                    let start = Instant::now();
                    black_box(cache.attend(black_box(query), span, Some(&rotations)));
                    start.elapsed()
                };
                (0..n).map(|_| once()).sum()
            });
        });
        group.throughput(Throughput::Elements((2 * HEADS * DIM * BLOCK) as u64));
        group.bench_function(BenchmarkId::new("append", scheme), |b| {
            b.iter_batched_ref(
                || {
                    let mut cache = Heads::new(scheme, HEADS, DIM);
                    cache.append(block, Some(&rotations));
                    cache
                },
                |cache| cache.append(black_box(block), Some(&rotations)),
                criterion::BatchSize::LargeInput,
            );
        });
        group.finish();
    }
    c.final_summary();
}
