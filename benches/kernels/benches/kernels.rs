//! Products with matrices in every form: bytes of weights per second with one row of activations, weights per second with many;
//! first the memory bandwidth. The matrices are one of Phi-3.5-mini's, others of as many weights in shorter rows, and some that
//! fit a cache, with one thread. An argument filters by name: `q8`, `avx2`, `vector`.

use std::{cell::LazyCell, hint::black_box, time::Duration};

use criterion::{BatchSize, BenchmarkId, Criterion, SamplingMode, Throughput};
use qins_quant::{
    EncodedTensor, FloatDtype, Scheme,
    kernel::{Rows, Simd, linear_on, read},
};
use rayon::ThreadPoolBuilder;

/// Rows and columns: twice those of `gate_proj` and `up_proj`.
const SHAPE: [usize; 2] = [16_384, 3072];

/// Columns of Gemma 3 270M, of Qwen2.5 0.5B and of Llama 3.2 1B.
const SHORT: [usize; 3] = [640, 896, 2048];

/// Rows of activations of a prompt, and of a long one.
const PROMPTS: [usize; 2] = [128, 512];

/// Weights of a matrix that fits the cache of one core in every form but `f32`.
const IN_CACHE: usize = 1 << 18;

/// Numbers distributed like trained weights: sums of four uniform ones, from a linear congruential generator.
fn numbers(n: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..n).map(|_| 0.04 * (uniform() + uniform() + uniform() + uniform())).collect()
}

/// Calls `bench` with each form of a matrix: its name, its bytes, and what makes it when it is first needed.
fn for_every_form([rows, cols]: [usize; 2], mut bench: impl FnMut(&str, usize, &dyn Fn(&mut dyn FnMut(Rows<'_>)))) {
    let weights: LazyCell<Vec<f32>, _> =
        LazyCell::new(|| numbers(rows * cols).into_iter().map(|w| FloatDtype::Bf16.round(w)).collect());
    let words: LazyCell<Vec<u16>, _> =
        LazyCell::new(|| weights.iter().map(|w| (w.to_bits() >> 16) as u16).collect::<Vec<_>>());
    bench("f32 plain", 4 * rows * cols, &|run| run(Rows::Dense(&weights)));
    bench("bf16 plain", 2 * rows * cols, &|run| run(Rows::Half { words: &words, stride: cols, bf16: true }));
    for scheme in Scheme::ALL.into_iter().filter(|scheme| !scheme.is_storage_only()) {
        let encode = |weights: &[f32]| {
            let shape = [weights.len() / cols, cols];
            EncodedTensor::encode_as(weights, shape, FloatDtype::Bf16, &scheme.into()).expect("finite")
        };
        let few = numbers(2 * cols);
        let row = encode(&few).bytes() - encode(&few[..cols]).bytes();
        let encoded = LazyCell::new(|| encode(&weights));
        bench(scheme.name(), rows * row, &|run| run(encoded.rows()));
    }
}

fn available() -> impl Iterator<Item = Simd> {
    Simd::ALL.into_iter().filter(|simd| simd.is_available())
}

/// Products with one row of activations, each after reading other memory, so that no weights are in a cache.
fn vectors(c: &mut Criterion, name: &str, shape @ [rows, cols]: [usize; 2], memory: &[u64]) {
    let (x, mut y) = (numbers(cols), vec![0.0; rows]);
    for_every_form(shape, |form, bytes, with| {
        let mut group = c.benchmark_group(name);
        group.sampling_mode(SamplingMode::Flat).sample_size(20).measurement_time(Duration::from_secs(2));
        group.warm_up_time(Duration::from_millis(300)).throughput(Throughput::Bytes(bytes as u64));
        for simd in available() {
            group.bench_function(BenchmarkId::new(form, simd), |b| {
                with(&mut |w| {
                    let product = |_| linear_on(simd, w, shape, black_box(&x), &mut y);
                    b.iter_batched(|| read(black_box(memory)), product, BatchSize::PerIteration);
                });
            });
        }
        group.finish();
    });
}

/// Products with one row of activations on one thread, whose weights are in its cache.
fn in_cache(c: &mut Criterion, cols: usize) {
    let shape @ [rows, _] = [IN_CACHE / cols, cols];
    let (x, mut y) = (numbers(cols), vec![0.0; rows]);
    let one = ThreadPoolBuilder::new().num_threads(1).build().expect("one thread starts");
    for_every_form(shape, |form, bytes, with| {
        let mut group = c.benchmark_group(format!("cache, {cols} columns"));
        group.sample_size(20).measurement_time(Duration::from_millis(500)).warm_up_time(Duration::from_millis(200));
        group.throughput(Throughput::Bytes(bytes as u64));
        for simd in available() {
            group.bench_function(BenchmarkId::new(form, simd), |b| {
                with(&mut |w| one.install(|| b.iter(|| linear_on(simd, w, shape, black_box(&x), &mut y))));
            });
        }
        group.finish();
    });
}

fn prompts(c: &mut Criterion, shape @ [rows, cols]: [usize; 2], m: usize) {
    let (x, mut y) = (numbers(m * cols), vec![0.0; m * rows]);
    for_every_form(shape, |form, _, with| {
        let mut group = c.benchmark_group(format!("prompt of {m}"));
        group.sampling_mode(SamplingMode::Flat).sample_size(10).measurement_time(Duration::from_secs(2));
        group.warm_up_time(Duration::from_millis(300)).throughput(Throughput::Elements((2 * m * rows * cols) as u64));
        for simd in available() {
            group.bench_function(BenchmarkId::new(form, simd), |b| {
                with(&mut |w| b.iter(|| linear_on(simd, w, shape, black_box(&x), &mut y)));
            });
        }
        group.finish();
    });
}

fn main() {
    let mut c = Criterion::default().configure_from_args();
    let memory = vec![1_u64; 32 << 20];
    let mut group = c.benchmark_group("read");
    group.throughput(Throughput::Bytes(size_of_val(&memory[..]) as u64));
    group.bench_function("memory", |b| b.iter(|| read(black_box(&memory))));
    group.finish();
    vectors(&mut c, "vector", SHAPE, &memory);
    for cols in SHORT {
        vectors(&mut c, &format!("vector, {cols} columns"), [SHAPE[0] * SHAPE[1] / cols, cols], &memory);
    }
    for cols in SHORT.into_iter().chain([SHAPE[1]]) {
        in_cache(&mut c, cols);
    }
    for m in PROMPTS {
        prompts(&mut c, SHAPE, m);
    }
    c.final_summary();
}
