//! Keys and values at rest, and attention over them: against plain loops in `f64`.

use qins_quant::kv::{Heads, KvScheme, Visible};

use crate::common::Random;

fn gaussian(n: usize, seed: u64) -> Vec<f32> {
    Random(seed).normals(n, 1.0)
}

const DIM: usize = 48;

/// Keys with a few channels much larger than the others, as models have them.
fn keys(n: usize, seed: u64) -> Vec<f32> {
    let mut keys = gaussian(n, seed);
    keys.iter_mut().enumerate().filter(|(i, _)| i % DIM % 16 == 5).for_each(|(_, x)| *x = *x * 3.0 + 12.0);
    keys
}

/// A cache of `heads` heads with `tokens` tokens, appended in pieces of these lengths in turn; and what it was given, `[heads,
/// tokens, DIM]`.
fn filled(scheme: KvScheme, heads: usize, tokens: usize, pieces: &[usize]) -> (Heads, Vec<f32>, Vec<f32>) {
    let (k, v) = (keys(heads * tokens * DIM, 1), gaussian(heads * tokens * DIM, 2));
    let mut cache = Heads::new(scheme, heads, DIM, 8);
    let (mut start, mut pieces) = (0, pieces.iter().cycle());
    while start < tokens {
        let n = (*pieces.next().unwrap()).min(tokens - start);
        let piece = |all: &[f32]| -> Vec<f32> {
            all.chunks(tokens * DIM).flat_map(|head| head[start * DIM..][..n * DIM].to_vec()).collect()
        };
        cache.append(&piece(&k), &piece(&v));
        start += n;
    }
    assert_eq!(cache.len(), tokens);
    (cache, k, v)
}

/// Attention by its definition, in `f64`.
fn naive(queries: &[f32], k: &[f32], v: &[f32], heads: usize, visible: Visible) -> Vec<f64> {
    let (rows, tokens) = (queries.len() / heads / DIM, k.len() / heads / DIM);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let mut out = Vec::new();
    for (i, q) in queries.chunks_exact(DIM).enumerate() {
        let (head, position) = (i / rows, visible.start + i % rows % visible.n);
        let first = (position + 1).saturating_sub(visible.window.unwrap_or(usize::MAX));
        let at = |all: &[f32], t: usize| all[(head * tokens + t) * DIM..][..DIM].to_vec();
        let scores: Vec<f64> = (first..=position).map(|t| dot(q, &at(k, t)) / (DIM as f64).sqrt()).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let mut y = vec![0.0; DIM];
        for (t, weight) in (first..=position).zip(weights) {
            y.iter_mut().zip(at(v, t)).for_each(|(y, v)| *y += weight / sum * f64::from(v));
        }
        out.extend(y);
    }
    out
}

fn nmse(expected: &[f64], found: &[f32]) -> f64 {
    let error: f64 = expected.iter().zip(found).map(|(e, f)| (e - f64::from(*f)).powi(2)).sum();
    error / expected.iter().map(|e| e * e).sum::<f64>()
}

/// What rounding sums of products in `f32` may lose.
const FLOAT_NMSE: f64 = 1e-11;

#[test]
fn attention_over_floats_is_what_it_is_by_definition() {
    let (heads, tokens) = (3, 200);
    let (cache, k, v) = filled(KvScheme::F32, heads, tokens, &[1, 70, 7]);
    for (start, n) in [(0, 1), (0, 200), (63, 1), (64, 1), (199, 1), (100, 65), (1, 3)] {
        for window in [None, Some(1), Some(5), Some(64), Some(130)] {
            for group in [1, 3] {
                let visible = Visible { start, n, window };
                let queries = gaussian(heads * group * n * DIM, 3);
                let found = cache.attend(&queries, visible);
                let error = nmse(&naive(&queries, &k, &v, heads, visible), &found);
                assert!(error < FLOAT_NMSE, "{visible:?}, group of {group}: {error}");
            }
        }
    }
    // Another rule of what is seen is found out.
    let visible = Visible { start: 100, n: 9, window: Some(20) };
    let queries = gaussian(heads * 9 * DIM, 3);
    let other = naive(&queries, &k, &v, heads, Visible { window: Some(21), ..visible });
    assert!(nmse(&other, &cache.attend(&queries, visible)) > 1e-6);
}

/// The error of what attention gives that each form of the cache may make, beside plain `f32`.
#[test]
fn encoded_keys_and_values_keep_the_result() {
    let (heads, tokens) = (2, 300);
    let visible = Visible { start: 0, n: tokens, window: None };
    let queries: Vec<f32> = gaussian(heads * tokens * DIM, 4).iter().map(|q| q * 0.3).collect();
    let mut before = 0.0;
    for (scheme, bound, bits) in [
        (KvScheme::F16, 1e-6, 16.0),
        (KvScheme::Bf16, 5e-5, 16.0),
        (KvScheme::Q8, 2e-4, 8.34),
        // The last block of keys is not full, and rests in 32 bits.
        (KvScheme::Q4, 3e-2, 4.55 + 28.0 * 44.0 / 300.0 / 2.0),
    ] {
        let (cache, k, v) = filled(scheme, heads, tokens, &[1, 64, 13]);
        let expected = naive(&queries, &k, &v, heads, visible);
        let error = nmse(&expected, &cache.attend(&queries, visible));
        assert!(error < bound && error > before, "{scheme}: {error}");
        before = error / 2.0;
        let found = 8.0 * cache.bytes() as f64 / (k.len() + v.len()) as f64;
        assert!(found <= bits, "{scheme}: {found} bits");
        // However it was filled.
        let (whole, ..) = filled(scheme, heads, tokens, &[tokens]);
        assert_eq!(cache.attend(&queries, visible), whole.attend(&queries, visible), "{scheme}");
    }
}

/// The bits of a number that a long context settles at.
#[test]
fn a_number_takes_the_bits_that_are_promised() {
    for (scheme, bits) in [(KvScheme::Q8, 8.5), (KvScheme::Q4, 4.75)] {
        for dim in [32, 64, 96, 128] {
            let mut cache = Heads::new(scheme, 1, dim, 0);
            let tokens = 64 * 40;
            cache.append(&gaussian(tokens * dim, 1), &gaussian(tokens * dim, 2));
            let found = 8.0 * cache.bytes() as f64 / (2 * tokens * dim) as f64;
            assert!(found <= bits, "{scheme}, {dim}: {found}");
        }
    }
}

#[test]
fn numbers_that_are_not_finite_stay_so_and_zeros_are_exact() {
    for scheme in KvScheme::ALL {
        let mut cache = Heads::new(scheme, 1, DIM, 0);
        let zeros = vec![0.0; 64 * DIM];
        cache.append(&zeros, &zeros);
        let seen = |cache: &Heads, at: usize| cache.attend(&[1.0; DIM], Visible { start: at, n: 1, window: Some(1) });
        assert_eq!(seen(&cache, 63), vec![0.0; DIM], "{scheme}");
        for bad in [f32::NAN, f32::INFINITY] {
            cache.clear();
            assert!(cache.is_empty() && cache.bytes() == 0);
            let mut values = gaussian(64 * DIM, 1);
            values[9 * DIM + 7] = bad;
            cache.append(&zeros, &values);
            assert!(!seen(&cache, 9)[7].is_finite(), "{scheme}, {bad}");
            assert!(seen(&cache, 8).iter().all(|y| y.is_finite()), "{scheme}, {bad}");
        }
    }
}
