//! The product with one of Phi-3.5-mini's matrices: bytes of weights per second with one row of activations, weights per second
//! with many; first the memory bandwidth. An argument filters by name: `q8`, `avx2`, `vector`.

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use qins_quant::{
    EncodedTensor, FloatDtype, Scheme,
    kernel::{Rows, Simd, linear_on, read},
};

/// Rows and columns: twice those of `gate_proj` and `up_proj`, so that the matrix does not fit a cache.
const SHAPE: [usize; 2] = [16_384, 3072];

/// Rows of activations of a prompt.
const PROMPT: usize = 128;

/// Numbers distributed like trained weights: sums of four uniform ones, from a linear congruential generator.
fn numbers(n: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..n).map(|_| 0.04 * (uniform() + uniform() + uniform() + uniform())).collect()
}

fn products(c: &mut Criterion) {
    let [rows, cols] = SHAPE;
    let weights: Vec<f32> = numbers(rows * cols).into_iter().map(|w| FloatDtype::Bf16.round(w)).collect();
    let words: Vec<u16> = weights.iter().map(|w| (w.to_bits() >> 16) as u16).collect();
    let x = numbers(PROMPT * cols);
    let mut y = vec![0.0; PROMPT * rows];

    let memory = vec![1_u64; 32 << 20];
    let mut group = c.benchmark_group("read");
    group.throughput(Throughput::Bytes(size_of_val(&memory[..]) as u64));
    group.bench_function("memory", |b| b.iter(|| read(black_box(&memory))));
    group.finish();

    let mut all = |name: &str, w: Rows<'_>, bytes: usize| {
        for (kind, m) in [("vector", 1), ("prompt", PROMPT)] {
            let mut group = c.benchmark_group(kind);
            group.sampling_mode(SamplingMode::Flat).sample_size(10).measurement_time(Duration::from_secs(2));
            group.warm_up_time(Duration::from_millis(300));
            group.throughput(if m == 1 {
                Throughput::Bytes(bytes as u64)
            } else {
                Throughput::Elements((2 * m * rows * cols) as u64)
            });
            for simd in Simd::ALL.into_iter().filter(|simd| simd.is_available()) {
                group.bench_with_input(BenchmarkId::new(name, simd), &m, |b, &m| {
                    b.iter(|| linear_on(simd, w, SHAPE, black_box(&x[..m * cols]), &mut y[..m * rows]));
                });
            }
            group.finish();
        }
    };
    all("f32 plain", Rows::Dense(&weights), 4 * weights.len());
    all("bf16 plain", Rows::Half { words: &words, stride: cols, bf16: true }, 2 * weights.len());
    for scheme in Scheme::ALL.into_iter().filter(|scheme| !scheme.is_storage_only()) {
        let encoded = EncodedTensor::encode_as(&weights, SHAPE, FloatDtype::Bf16, &scheme.into()).expect("finite");
        all(scheme.name(), encoded.rows(), encoded.bytes());
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    products(&mut criterion);
    criterion.final_summary();
}
