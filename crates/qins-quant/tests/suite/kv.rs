//! The encoded KV cache and attention over it, against plain loops in `f64`.

use std::ops::Range;

use qins_quant::kv::{AttentionSpan, Heads, KvScheme};

use crate::common::Random;

fn gaussian(n: usize, seed: u64) -> Vec<f32> {
    Random(seed).normals(n, 1.0)
}

const DIM: usize = 48;

/// Keys with a few channels much larger than the others, as in real models.
fn keys(n: usize, seed: u64) -> Vec<f32> {
    let mut keys = gaussian(n, seed);
    keys.iter_mut().enumerate().filter(|(i, _)| i % DIM % 16 == 5).for_each(|(_, x)| *x = *x * 3.0 + 12.0);
    keys
}

/// A cache of `heads` heads and `tokens` tokens, appended in chunks of these lengths in turn; and the keys and values, `[heads,
/// tokens, DIM]`.
fn filled(scheme: KvScheme, heads: usize, tokens: usize, chunks: &[usize]) -> (Heads, Vec<f32>, Vec<f32>) {
    let (k, v) = (keys(heads * tokens * DIM, 1), gaussian(heads * tokens * DIM, 2));
    let mut cache = Heads::new(scheme, heads, DIM, 8);
    let (mut start, mut chunks) = (0, chunks.iter().cycle());
    while start < tokens {
        let n = (*chunks.next().unwrap()).min(tokens - start);
        let chunk = |all: &[f32]| -> Vec<f32> {
            all.chunks(tokens * DIM).flat_map(|head| head[start * DIM..][..n * DIM].to_vec()).collect()
        };
        cache.append(&chunk(&k), &chunk(&v));
        start += n;
    }
    assert_eq!(cache.len(), tokens);
    (cache, k, v)
}

/// Attention by its definition, in `f64`.
fn naive(queries: &[f32], k: &[f32], v: &[f32], heads: usize, span: AttentionSpan) -> Vec<f64> {
    let (rows, tokens) = (queries.len() / heads / DIM, k.len() / heads / DIM);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let mut out = Vec::new();
    for (i, q) in queries.chunks_exact(DIM).enumerate() {
        let (head, position) = (i / rows, span.start + i % rows % span.n);
        let first = (position + 1).saturating_sub(span.window.unwrap_or(usize::MAX));
        let at = |all: &[f32], t: usize| all[(head * tokens + t) * DIM..][..DIM].to_vec();
        let capped = |score: f64| span.softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh());
        let scores: Vec<f64> = (first..=position).map(|t| capped(dot(q, &at(k, t)) / (DIM as f64).sqrt())).collect();
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

/// The NMSE that rounding sums of products in `f32` may cause.
const FLOAT_NMSE: f64 = 1e-11;

#[test]
fn attention_over_f32_cache_matches_definition() {
    let (heads, tokens) = (3, 200);
    let (cache, k, v) = filled(KvScheme::F32, heads, tokens, &[1, 70, 7]);
    for (start, n) in [(0, 1), (0, 200), (63, 1), (64, 1), (199, 1), (100, 65), (1, 3)] {
        for window in [None, Some(1), Some(5), Some(64), Some(130)] {
            for (group, softcap) in [(1, None), (3, None), (3, Some(0.7))] {
                let span = AttentionSpan { start, n, window, softcap };
                let queries = gaussian(heads * group * n * DIM, 3);
                let found = cache.attend(&queries, span);
                let error = nmse(&naive(&queries, &k, &v, heads, span), &found);
                assert!(error < FLOAT_NMSE, "{span:?}, group of {group}: {error}");
            }
        }
    }
    // Controls: another window or cap gives another result.
    let span = AttentionSpan { start: 100, n: 9, window: Some(20), softcap: Some(0.7) };
    let queries = gaussian(heads * 9 * DIM, 3);
    for other in [AttentionSpan { window: Some(21), ..span }, AttentionSpan { softcap: None, ..span }] {
        assert!(nmse(&naive(&queries, &k, &v, heads, other), &cache.attend(&queries, span)) > 1e-6, "{other:?}");
    }
}

/// The NMSE of attention that each scheme may cause, and the bits per element that it may take.
#[test]
fn attention_over_encoded_cache_is_within_error_bound() {
    let (heads, tokens) = (2, 300);
    let span = AttentionSpan { start: 0, n: tokens, window: None, softcap: None };
    let queries: Vec<f32> = gaussian(heads * tokens * DIM, 4).iter().map(|q| q * 0.3).collect();
    let mut before = 0.0;
    for (scheme, bound, bits) in [
        (KvScheme::F16, 1e-6, 16.0),
        (KvScheme::Bf16, 5e-5, 16.0),
        (KvScheme::Q8, 2e-4, 8.34),
        // The last block of keys is not full, and is stored in 32 bits.
        (KvScheme::Q4, 3e-2, 4.55 + 28.0 * 44.0 / 300.0 / 2.0),
    ] {
        let (cache, k, v) = filled(scheme, heads, tokens, &[1, 64, 13]);
        let expected = naive(&queries, &k, &v, heads, span);
        let error = nmse(&expected, &cache.attend(&queries, span));
        assert!(error < bound && error > before, "{scheme}: {error}");
        before = error / 2.0;
        let found = 8.0 * cache.bytes() as f64 / (k.len() + v.len()) as f64;
        assert!(found <= bits, "{scheme}: {found} bits");
        // The result does not depend on how the cache was filled.
        let (whole, ..) = filled(scheme, heads, tokens, &[tokens]);
        assert_eq!(cache.attend(&queries, span), whole.attend(&queries, span), "{scheme}");
    }
}

/// The bits per element in a long context.
#[test]
fn kv_element_takes_at_most_its_promised_bits() {
    for (scheme, bits) in [(KvScheme::Q8, 8.5), (KvScheme::Q4, 4.75)] {
        for dim in [32, 64, 96, 128] {
            let mut cache = Heads::new(scheme, 1, dim, 0);
            // The last block of keys is stored in 32 bits.
            let tokens = 64 * 200;
            cache.append(&gaussian(tokens * dim, 1), &gaussian(tokens * dim, 2));
            let found = 8.0 * cache.bytes() as f64 / (2 * tokens * dim) as f64;
            assert!(found <= bits, "{scheme}, {dim}: {found}");
        }
    }
}

/// The results for all tokens, read in pieces of `piece`, and of these in those of `parts`: `[heads, tokens, DIM]`.
fn attended(
    scheme: KvScheme,
    tokens: usize,
    piece: usize,
    parts: impl Fn(Range<usize>) -> Vec<Range<usize>>,
) -> Vec<f32> {
    const HEADS: usize = 2;
    let all = [keys(HEADS * tokens * DIM, 1), gaussian(HEADS * tokens * DIM, 2), gaussian(HEADS * tokens * DIM, 3)];
    let mut cache = Heads::new(scheme, HEADS, DIM, 8);
    let mut out = vec![0.0; HEADS * tokens * DIM];
    for start in (0..tokens).step_by(piece) {
        for part in parts(start..tokens.min(start + piece)) {
            let [k, v, q] = [0, 1, 2].map(|which: usize| -> Vec<f32> {
                let head = |head: &[f32]| head[part.start * DIM..part.end * DIM].to_vec();
                all[which].chunks(tokens * DIM).flat_map(head).collect()
            });
            cache.append(&k, &v);
            let found =
                cache.attend(&q, AttentionSpan { start: part.start, n: part.len(), window: None, softcap: None });
            for (out, found) in out.chunks_mut(tokens * DIM).zip(found.chunks(part.len() * DIM)) {
                out[part.start * DIM..part.end * DIM].copy_from_slice(found);
            }
        }
    }
    out
}

#[test]
fn attention_does_not_depend_on_how_many_tokens_are_read_at_once() {
    for scheme in KvScheme::ALL {
        let in_pieces = |piece| attended(scheme, 160, piece, |tokens| scheme.pieces(tokens).collect());
        let one_by_one: Vec<f64> = in_pieces(1).into_iter().map(f64::from).collect();
        for piece in [5, 31, 63, 64, 65, 160] {
            // Products of one query and of several are summed in another order.
            let error = nmse(&one_by_one, &in_pieces(piece));
            assert!(error < FLOAT_NMSE, "{scheme}, pieces of {piece}: {error:e}");
        }
        // Control: in one piece, queries see their own block encoded, where blocks are.
        let error = nmse(&one_by_one, &attended(scheme, 160, 160, |tokens| vec![tokens]));
        assert_eq!(error > 1e-4, scheme == KvScheme::Q4, "{scheme}: {error:e}");
    }
}

#[test]
fn element_beyond_the_range_is_reported_and_becomes_nan() {
    for scheme in KvScheme::ALL {
        let most = scheme.keys().most();
        assert_eq!(most, scheme.values().most());
        let zeros = vec![0.0; 65 * DIM];
        for (x, fits) in [(most, true), (-most, true), (most * (1.0 + 1e-6), false), (-2.0 * most, false)] {
            // Of f32, twice the most is infinite: it is not finite to begin with.
            let reported = (!fits && x.is_finite()).then_some(x);
            for in_keys in [true, false] {
                let mut cache = Heads::new(scheme, 1, DIM, 0);
                let mut vectors = zeros.clone();
                vectors[9 * DIM + 7] = x;
                let (k, v) = if in_keys { (&vectors, &zeros) } else { (&zeros, &vectors) };
                cache.append(k, v);
                assert_eq!(cache.beyond(), reported, "{scheme}, {x}");
                // A score of the opposite sign, so that an infinite key would only be masked.
                let query = vec![if x > 0.0 { -1e-5 } else { 1e-5 }; DIM];
                let y = cache.attend(&query, AttentionSpan { start: 64, n: 1, window: None, softcap: None });
                assert_eq!(y.iter().all(|y| y.is_finite()), fits, "{scheme}, {x}, keys: {in_keys}");
                cache.clear();
                assert_eq!(cache.beyond(), None);
            }
        }
    }
}

#[test]
fn non_finite_values_stay_non_finite_and_zeros_are_exact() {
    for scheme in KvScheme::ALL {
        let mut cache = Heads::new(scheme, 1, DIM, 0);
        let zeros = vec![0.0; 64 * DIM];
        cache.append(&zeros, &zeros);
        let attend = |cache: &Heads, at: usize| {
            cache.attend(&[1.0; DIM], AttentionSpan { start: at, n: 1, window: Some(1), softcap: None })
        };
        assert_eq!(attend(&cache, 63), vec![0.0; DIM], "{scheme}");
        for bad in [f32::NAN, f32::INFINITY] {
            cache.clear();
            assert!(cache.is_empty() && cache.bytes() == 0);
            let mut values = gaussian(64 * DIM, 1);
            values[9 * DIM + 7] = bad;
            cache.append(&zeros, &values);
            assert!(!attend(&cache, 9)[7].is_finite(), "{scheme}, {bad}");
            assert!(attend(&cache, 8).iter().all(|y| y.is_finite()), "{scheme}, {bad}");
        }
    }
}
