//! The encoded KV cache and attention over it, against plain loops in `f64`.

use std::ops::Range;

use qins_quant::kv::{AttentionSpan, BLOCK, Heads, KvForm, KvScheme, NewTokens, Rotations, SINKS};

use crate::common::Random;

fn gaussian(n: usize, seed: u64) -> Vec<f32> {
    Random(seed).normals(n, 1.0)
}

const DIM: usize = 48;
const HEADS: usize = 2;
const GROUP: usize = 2;

/// Half of each vector is rotated.
fn rotations(tokens: usize) -> Rotations {
    let frequencies: Vec<f32> = (0..DIM / 4).map(|i| 1e4_f32.powf(-(i as f32) / (DIM / 4) as f32)).collect();
    let mut rotations = Rotations::new(&frequencies, 1.1);
    rotations.extend(tokens);
    rotations
}

/// Tokens of a sequence: keys and values `[HEADS, n, DIM]`, and rotated queries `[HEADS·GROUP, n, DIM]`.
#[derive(Clone)]
struct Tokens {
    n: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
    queries: Vec<f32>,
}

impl Tokens {
    /// Keys with a few channels whose mean is much larger than their spread, as in real models.
    fn random(n: usize) -> Self {
        let mut keys = gaussian(HEADS * n * DIM, 1);
        keys.iter_mut().enumerate().filter(|(i, _)| i % DIM % 16 == 5).for_each(|(_, x)| *x = *x * 3.0 + 12.0);
        let queries = gaussian(HEADS * GROUP * n * DIM, 3).iter().map(|q| q * 0.3).collect();
        Self { n, keys, values: gaussian(HEADS * n * DIM, 2), queries }
    }

    fn part(&self, tokens: Range<usize>) -> Self {
        let of = |all: &[f32]| -> Vec<f32> {
            all.chunks(self.n * DIM).flat_map(|head| head[tokens.start * DIM..tokens.end * DIM].to_vec()).collect()
        };
        Self { n: tokens.len(), keys: of(&self.keys), values: of(&self.values), queries: of(&self.queries) }
    }

    fn append_to(&self, cache: &mut Heads, rotations: Option<&Rotations>) {
        let Self { keys, values, queries, .. } = self;
        cache.append(NewTokens { keys, values, queries }, rotations);
    }
}

/// A cache of tokens, appended in chunks of these lengths in turn.
fn filled(scheme: KvScheme, tokens: &Tokens, chunks: &[usize], rotations: Option<&Rotations>) -> Heads {
    let mut cache = Heads::new(scheme, HEADS, DIM);
    let (mut start, mut chunks) = (0, chunks.iter().cycle());
    while start < tokens.n {
        let n = (*chunks.next().unwrap()).min(tokens.n - start);
        tokens.part(start..start + n).append_to(&mut cache, rotations);
        start += n;
    }
    assert_eq!(cache.len(), tokens.n);
    cache
}

/// Attention by its definition, in `f64`.
fn naive(all: &Tokens, span: AttentionSpan, rotations: Option<&Rotations>) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|x| f64::from(*x)).collect() };
    let rotated = |x: &[f32], position: usize| {
        let mut x = wide(x);
        if let Some(rotations) = rotations {
            let ([cos, sin], pairs) = (rotations.tables(position, 1), rotations.pairs());
            for c in 0..pairs {
                let (a, b, cos, sin) = (x[c], x[c + pairs], f64::from(cos[c]), f64::from(sin[c]));
                (x[c], x[c + pairs]) = (a * cos - b * sin, b * cos + a * sin);
            }
        }
        x
    };
    let part = all.part(span.start..span.start + span.n);
    let mut out = Vec::new();
    for (i, q) in part.queries.chunks_exact(DIM).enumerate() {
        let (head, position) = (i / span.n / GROUP, span.start + i % span.n);
        let first = (position + 1).saturating_sub(span.window.unwrap_or(usize::MAX));
        let at = |all_of: &[f32], t: usize| all_of[(head * all.n + t) * DIM..][..DIM].to_vec();
        let capped = |score: f64| span.softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh());
        let score = |t: usize| capped(dot(&wide(q), &rotated(&at(&all.keys, t), t)) / (DIM as f64).sqrt());
        let scores: Vec<f64> = (first..=position).map(score).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let mut y = vec![0.0; DIM];
        for (t, weight) in (first..=position).zip(weights) {
            y.iter_mut().zip(at(&all.values, t)).for_each(|(y, v)| *y += weight / sum * f64::from(v));
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

fn span(start: usize, n: usize) -> AttentionSpan {
    AttentionSpan { start, n, window: None, softcap: None }
}

#[test]
fn attention_over_f32_cache_matches_definition() {
    let tokens = Tokens::random(200);
    for rotations in [None, Some(rotations(200))] {
        let rotations = rotations.as_ref();
        let cache = filled(KvScheme::F32, &tokens, &[1, 70, 7], rotations);
        for (start, n) in [(0, 1), (0, 200), (63, 1), (64, 1), (199, 1), (100, 65), (1, 3)] {
            for window in [None, Some(1), Some(5), Some(64), Some(130)] {
                for softcap in [None, Some(0.7)] {
                    let span = AttentionSpan { start, n, window, softcap };
                    let found = cache.attend(&tokens.part(start..start + n).queries, span, rotations);
                    let error = nmse(&naive(&tokens, span, rotations), &found);
                    assert!(error < FLOAT_NMSE, "{span:?}: {error}");
                }
            }
        }
        // Controls: another window or cap gives another result.
        let span = AttentionSpan { start: 100, n: 9, window: Some(20), softcap: Some(0.7) };
        let found = cache.attend(&tokens.part(100..109).queries, span, rotations);
        for other in [AttentionSpan { window: Some(21), ..span }, AttentionSpan { softcap: None, ..span }] {
            assert!(nmse(&naive(&tokens, other, rotations), &found) > 1e-6, "{other:?}");
        }
    }
}

/// The NMSE of attention that each scheme may cause.
const BOUNDS: [(KvScheme, f64); 7] = [
    (KvScheme::F16, 1e-6),
    (KvScheme::Bf16, 5e-5),
    (KvScheme::Q8, 5e-5),
    (KvScheme::K5v5, 2e-3),
    (KvScheme::K5v4, 8e-3),
    (KvScheme::K4v4, 1e-2),
    (KvScheme::K3v3, 4e-2),
];

#[test]
fn attention_over_encoded_cache_is_within_error_bound() {
    // More than a part of attention.
    for n in [300, 1100] {
        let (tokens, rotations) = (Tokens::random(n), rotations(n));
        for rotations in [None, Some(&rotations)] {
            let expected = naive(&tokens, span(n - 90, 90), rotations);
            let queries = &tokens.part(n - 90..n).queries;
            for (scheme, bound) in BOUNDS {
                let cache = filled(scheme, &tokens, &[1, 64, 13], rotations);
                let error = nmse(&expected, &cache.attend(queries, span(n - 90, 90), rotations));
                println!("{n} {scheme}: {error:e}");
                assert!(error < bound && error > bound / 20.0, "{scheme}: {error}");
                // The result does not depend on how the cache was filled.
                let whole = filled(scheme, &tokens, &[n], rotations);
                let [one, other] = [&cache, &whole].map(|cache| cache.attend(queries, span(n - 90, 90), rotations));
                assert_eq!(one, other, "{scheme}");
            }
        }
    }
}

/// The bits per element in a context of 2,048 tokens, all in closed blocks.
#[test]
fn kv_element_takes_at_most_its_promised_bits() {
    for (scheme, bits) in [
        (KvScheme::Q8, 8.5),
        (KvScheme::K5v5, 5.5),
        (KvScheme::K5v4, 5.0),
        (KvScheme::K4v4, 4.5),
        (KvScheme::K3v3, 3.5),
    ] {
        for dim in [32, 64, 96, 128, 256] {
            let mut cache = Heads::new(scheme, 1, dim);
            let random = |seed| gaussian(2049 * dim, seed);
            let (keys, values, queries) = (random(1), random(2), random(3));
            cache.append(NewTokens { keys: &keys, values: &values, queries: &queries }, None);
            // The token after a block closes it, and is in an open one itself.
            let found = 8.0 * (cache.bytes() - 2 * dim * 4) as f64 / (2 * 2048 * dim) as f64;
            assert_eq!(found, scheme.bits_per_number(dim), "{scheme}, {dim}");
            assert!(found <= bits && found > bits - 0.3, "{scheme}, {dim}: {found}");
        }
    }
}

/// The results for all tokens, read in pieces of `piece`, and of these in those of `parts`: `[HEADS·GROUP, tokens, DIM]`.
fn attended(
    scheme: KvScheme,
    tokens: &Tokens,
    piece: usize,
    window: Option<usize>,
    parts: impl Fn(Range<usize>) -> Vec<Range<usize>>,
) -> Vec<f32> {
    let rotations = rotations(tokens.n);
    let mut cache = Heads::new(scheme, HEADS, DIM);
    let mut out = vec![0.0; tokens.queries.len()];
    for start in (0..tokens.n).step_by(piece) {
        for part in parts(start..tokens.n.min(start + piece)) {
            let new = tokens.part(part.clone());
            new.append_to(&mut cache, Some(&rotations));
            let span = AttentionSpan { start: part.start, n: part.len(), window, softcap: None };
            let found = cache.attend(&new.queries, span, Some(&rotations));
            for (out, found) in out.chunks_mut(tokens.n * DIM).zip(found.chunks(part.len() * DIM)) {
                out[part.start * DIM..part.end * DIM].copy_from_slice(found);
            }
            if let Some(window) = window {
                cache.drop_before(part.end, window);
            }
        }
    }
    out
}

#[test]
fn attention_does_not_depend_on_how_many_tokens_are_read_at_once() {
    let tokens = Tokens::random(260);
    for scheme in KvScheme::ALL {
        for window in [None, Some(70)] {
            let in_pieces = |piece| attended(scheme, &tokens, piece, window, |tokens| scheme.pieces(tokens).collect());
            let one_by_one = in_pieces(1);
            for piece in [5, 31, 63, 64, 65, 260] {
                assert_eq!(one_by_one, in_pieces(piece), "{scheme}, pieces of {piece}");
            }
        }
        // Control: in one piece, queries see their own block coded, where blocks are.
        let in_pieces = attended(scheme, &tokens, 1, None, |tokens| vec![tokens]);
        let one_by_one: Vec<f64> = in_pieces.into_iter().map(f64::from).collect();
        let error = nmse(&one_by_one, &attended(scheme, &tokens, 260, None, |tokens| vec![tokens]));
        assert_eq!(error > 1e-7, matches!(scheme.form(), KvForm::Coded(_)), "{scheme}: {error:e}");
    }
}

#[test]
fn prompt_within_the_first_block_has_the_bits_of_the_plain_cache() {
    let tokens = Tokens::random(BLOCK);
    let of = |scheme: KvScheme| attended(scheme, &tokens, 7, None, |tokens| scheme.pieces(tokens).collect());
    for scheme in KvScheme::ALL.into_iter().filter(|scheme| matches!(scheme.form(), KvForm::Coded(_))) {
        assert_eq!(of(scheme), of(KvScheme::F32), "{scheme}");
    }
    // Control.
    assert_ne!(of(KvScheme::F32), of(KvScheme::Bf16));
}

#[test]
fn first_tokens_are_kept_as_they_are() {
    let mut tokens = Tokens::random(200);
    // As large as the sinks of real models are, and of no weight in any scale or mean.
    let sinks = |tokens: &mut Tokens, factor: f32| {
        for x in [&mut tokens.keys, &mut tokens.values] {
            x.chunks_mut(200 * DIM).for_each(|head| head[..SINKS * DIM].iter_mut().for_each(|x| *x *= factor));
        }
    };
    let error = |tokens: &Tokens| {
        let cache = filled(KvScheme::K4v4, tokens, &[200], None);
        let span = AttentionSpan { start: 199, n: 1, window: None, softcap: None };
        nmse(&naive(tokens, span, None), &cache.attend(&tokens.part(199..200).queries, span, None))
    };
    let before = error(&tokens);
    sinks(&mut tokens, 1e3);
    assert!(error(&tokens) < 2.0 * before, "{before:e}, {:e}", error(&tokens));
}

#[test]
fn what_leaves_the_window_is_freed() {
    let tokens = Tokens::random(640);
    let mut cache = filled(KvScheme::K4v4, &tokens, &[640], None);
    let (whole, block) = (cache.bytes(), KvScheme::K4v4.bytes(DIM, 129) - KvScheme::K4v4.bytes(DIM, 65));
    // Token 541 is in the ninth block.
    cache.drop_before(640, 100);
    assert!(whole - cache.bytes() >= HEADS * 8 * block, "{} of {whole}", cache.bytes());
    assert_eq!(cache.len(), 640);
}

#[test]
fn element_beyond_the_range_is_reported_and_becomes_nan() {
    for scheme in KvScheme::ALL {
        let most = scheme.form().most(DIM);
        let zeros = vec![0.0; 65 * DIM];
        for (in_keys, most) in [true, false].into_iter().zip(most) {
            for (x, fits) in [(most, true), (-most, true), (most * (1.0 + 1e-6), false), (-2.0 * most, false)] {
                // Of f32, twice the most is infinite: it is not finite to begin with.
                let reported = (!fits && x.is_finite()).then_some(x);
                let mut cache = Heads::new(scheme, 1, DIM);
                let mut vectors = zeros.clone();
                vectors[9 * DIM + 7] = x;
                let (k, v) = if in_keys { (&vectors, &zeros) } else { (&zeros, &vectors) };
                cache.append(NewTokens { keys: k, values: v, queries: k }, None);
                assert_eq!(cache.beyond().map(|beyond| beyond.found), reported, "{scheme}, {x}");
                // A score of the opposite sign, so that an infinite key would only be masked.
                let query = vec![if x > 0.0 { -1e-5 } else { 1e-5 }; DIM];
                let y = cache.attend(&query, span(64, 1), None);
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
        let mut cache = Heads::new(scheme, 1, DIM);
        // The block of the first 64 is closed, and that of the next.
        let zeros = vec![0.0; 129 * DIM];
        cache.append(NewTokens { keys: &zeros, values: &zeros, queries: &zeros }, None);
        let attend = |cache: &Heads, at: usize| {
            cache.attend(&[1.0; DIM], AttentionSpan { start: at, n: 1, window: Some(1), softcap: None }, None)
        };
        assert_eq!(attend(&cache, 63), vec![0.0; DIM], "{scheme}");
        for bad in [f32::NAN, f32::INFINITY] {
            cache.clear();
            assert!(cache.is_empty() && cache.bytes() == 0);
            let mut values = gaussian(129 * DIM, 1);
            values[9 * DIM + 7] = bad;
            cache.append(NewTokens { keys: &zeros, values: &values, queries: &zeros }, None);
            assert!(!attend(&cache, 9)[7].is_finite(), "{scheme}, {bad}");
            assert!(attend(&cache, 64).iter().all(|y| y.is_finite()), "{scheme}, {bad}");
        }
    }
}
