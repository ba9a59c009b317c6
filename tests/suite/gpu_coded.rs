//! Coded caches on a GPU, against those on the host.

use burn::tensor::{Device, Tensor, TensorData};
use qins_burn::{
    Session,
    decoder::{Decoder, Logits},
    kernel::{CodedHeads, Turns},
};
use qins_quant::kv::{AttentionSpan, BLOCK, Heads, KvForm, KvScheme, NewTokens, Rotations};

use crate::{
    common::{max_abs_diff, values},
    gpu::{atlas, best, cpu, device, model, nmse},
};

const HEADS: usize = 2;
const GROUP: usize = 2;
const TOKENS: usize = 300;
/// Where pieces end, beside the ends of blocks.
const ENDS: [usize; 8] = [1, 4, 63, 64, 65, 128, 129, TOKENS];
/// Of attention on a device: both read the same codes, and sum in `f32`.
const BOUND: f64 = 1e-10;
/// Of logits: bytes of a few keys and values, whose last bits differ, round the other way.
const NEAR: f32 = 5e-3;

/// What differs between layers of models.
#[derive(Clone, Copy, Debug)]
struct Layer {
    dim: usize,
    /// Rotated channels.
    rotated: usize,
    window: Option<usize>,
    softcap: Option<f32>,
}

impl Layer {
    fn rotations(self) -> Option<Rotations> {
        let pairs = self.rotated / 2;
        let frequencies: Vec<f32> = (0..pairs).map(|i| 1e4_f32.powf(-(i as f32) / pairs as f32)).collect();
        let mut rotations = (pairs > 0).then(|| Rotations::new(&frequencies, 1.1))?;
        rotations.extend(TOKENS);
        Some(rotations)
    }
}

/// Normally distributed numbers, about.
fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next() + next() + next()).collect()
}

/// Tokens `[heads, n, dim]`.
#[derive(Clone)]
struct Tokens {
    n: usize,
    dim: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
    queries: Vec<f32>,
}

impl Tokens {
    /// Keys with a few channels whose mean is much larger than their spread, as in real models.
    fn random(dim: usize, n: usize) -> Self {
        let mut keys = numbers(HEADS * n * dim, 1);
        keys.iter_mut().enumerate().filter(|(i, _)| i % dim % 16 == 5).for_each(|(_, x)| *x = *x * 3.0 + 12.0);
        let queries = numbers(HEADS * GROUP * n * dim, 3).iter().map(|q| q * 0.3).collect();
        Self { n, dim, keys, values: numbers(HEADS * n * dim, 2), queries }
    }

    /// With the values of two tokens in each other's place.
    fn swapped(&self, one: usize, other: usize) -> Self {
        let mut values = self.values.clone();
        for head in values.chunks_exact_mut(self.n * self.dim) {
            (0..self.dim).for_each(|c| head.swap(one * self.dim + c, other * self.dim + c));
        }
        Self { values, ..self.clone() }
    }

    /// Keys, values and queries of a range.
    fn part(&self, tokens: std::ops::Range<usize>) -> [Vec<f32>; 3] {
        let own = tokens.start * self.dim..tokens.end * self.dim;
        [&self.keys, &self.values, &self.queries]
            .map(|all| all.chunks(self.n * self.dim).flat_map(|head| head[own.clone()].to_vec()).collect())
    }
}

/// What the queries of each piece attend to.
fn on_host(scheme: KvScheme, layer: Layer, tokens: &Tokens) -> Vec<Vec<f32>> {
    let rotations = layer.rotations();
    let mut cache = Heads::new(scheme, HEADS, layer.dim);
    let attended = pieces(tokens.n).map(|(start, n)| {
        let [keys, values, queries] = tokens.part(start..start + n);
        cache.append(NewTokens { keys: &keys, values: &values, queries: &queries }, rotations.as_ref());
        let Layer { window, softcap, .. } = layer;
        let attended = cache.attend(&queries, AttentionSpan { start, n, window, softcap }, rotations.as_ref());
        layer.window.inspect(|window| cache.drop_before(start + n, *window));
        attended
    });
    attended.collect()
}

/// The same on a device.
fn on_device(scheme: KvScheme, layer: Layer, tokens: &Tokens, device: &Device) -> Vec<Vec<f32>> {
    let KvForm::Coded(bits) = scheme.form() else { panic!("{scheme} is not coded") };
    let turns = layer.rotations().map(|rotations| Turns::new(&rotations, tokens.n.div_ceil(BLOCK), device));
    let mut cache = CodedHeads::new(bits, HEADS, layer.dim, layer.window, device);
    let read = |cache: &mut CodedHeads| -> Vec<Vec<f32>> {
        let attended = pieces(tokens.n).map(|(start, n)| {
            let [k, v, q] = tokens.part(start..start + n).map(|numbers| {
                let rows = numbers.len() / HEADS / layer.dim;
                Tensor::<3>::from_data(TensorData::new(numbers, [HEADS, rows, layer.dim]), device)
            });
            let Layer { window, softcap, .. } = layer;
            cache.append(k, v, q.clone(), turns.as_ref());
            let attended = cache.attend(q, AttentionSpan { start, n, window, softcap }, turns.as_ref());
            attended.into_data().iter().collect()
        });
        attended.collect()
    };
    let attended = read(&mut cache);
    if layer.window.is_some() {
        // Cleared, it is as new.
        cache.clear();
        assert!(read(&mut cache) == attended, "{scheme}, {layer:?}");
    }
    attended
}

/// Start and length of the pieces of a sequence of `n` tokens.
fn pieces(n: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let ends = ENDS.into_iter().chain((1..).map(|i| i * BLOCK).take(n.div_ceil(BLOCK)));
        let end = ends.filter(|end| *end > start).min().filter(|end| *end <= n)?;
        let from = std::mem::replace(&mut start, end);
        Some((from, end - from))
    })
}

#[test]
fn attention_over_codes_on_a_device_is_that_of_the_host() {
    let device = device();
    let schemes = KvScheme::ALL.into_iter().filter(|scheme| matches!(scheme.form(), KvForm::Coded(_)));
    let plain = |dim: usize| Layer { dim, rotated: dim, window: None, softcap: None };
    let mut cases: Vec<(KvScheme, Layer)> =
        schemes.flat_map(|scheme| [64, 80, 96, 128, 256].map(|dim| (scheme, plain(dim)))).collect();
    cases.extend([
        (KvScheme::K5v4, Layer { rotated: 48, ..plain(96) }),
        (KvScheme::K4v4, Layer { rotated: 0, ..plain(64) }),
        (KvScheme::K4v4, Layer { window: Some(100), softcap: Some(2.0), ..plain(64) }),
        (KvScheme::Q8, Layer { window: Some(64), ..plain(64) }),
        (KvScheme::K4v4, Layer { window: Some(7), ..plain(64) }),
    ]);
    for (scheme, layer) in cases {
        let tokens = Tokens::random(layer.dim, TOKENS);
        let found = on_device(scheme, layer, &tokens, &device);
        let off = |expected: &[Vec<f32>]| -> Vec<f64> {
            assert_eq!(found.len(), expected.len());
            found.iter().zip(expected).map(|(found, expected)| nmse(found, expected)).collect()
        };
        let same = off(&on_host(scheme, layer, &tokens));
        assert!(same.iter().all(|off| *off < BOUND), "{scheme}, {layer:?}: {same:?}");
        // Controls, of the last piece, which attends to the end of the block before it: a plain cache, and two tokens of that block with each
        // other's values.
        if layer.window.is_none_or(|window| window > 8) {
            let last = |off: Vec<f64>| off[off.len() - 1];
            let coded = last(off(&on_host(KvScheme::F32, layer, &tokens)));
            let swapped = last(off(&on_host(scheme, layer, &tokens.swapped(254, 255))));
            assert!(coded > 100.0 * BOUND && swapped > 100.0 * BOUND, "{scheme}, {layer:?}: {coded:e}, {swapped:e}");
        }
    }
}

/// The embedded model's texts under a coded cache are the host's: its best tokens, near ties aside.
#[test]
fn tokens_under_a_coded_cache_on_a_device_are_those_of_the_host() {
    let (mut there, mut here) = (model(atlas(), None, &device()), model(atlas(), None, &cpu()));
    let prompt: Vec<u32> = (0..120).map(|i| 3 + i * 29 % 90).collect();
    // After a prompt, tokens across the end of a block; the device reads those of the host. How far the logits are apart, and by how much the device's
    // best token is worse on the host.
    let apart = |host: &Decoder, other: &Decoder, tokens: usize| {
        let (mut a, mut b) = (Session::new(host, 8), Session::new(other, 8));
        let (mut ids, mut worst) = (prompt.clone(), [0.0_f32; 2]);
        for _ in 0..tokens {
            let read = |session: &mut Session<'_>| values(session.extend(&ids, Logits::Last).unwrap());
            let (a, b) = (read(&mut a), read(&mut b));
            let own = best(&a);
            worst = [worst[0].max(max_abs_diff(&a, &b)), worst[1].max(a[own] - a[best(&b)])];
            ids = vec![own as u32];
        }
        worst
    };
    for scheme in [KvScheme::K4v4, KvScheme::Q8] {
        there.set_kv(scheme);
        here.set_kv(scheme);
        let [logits, best] = apart(&here, &there, 16);
        // Control: another number of bits.
        there.set_kv(KvScheme::K3v3);
        let [other, _] = apart(&here, &there, 1);
        assert!(
            logits < NEAR && best < NEAR && other > NEAR,
            "{scheme}: {logits}, {best}, and with other bits {other}"
        );
    }
}
