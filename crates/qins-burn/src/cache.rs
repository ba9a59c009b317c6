//! The KV cache.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use qins_model::{LayerConfig, ModelConfig, Rope, RopeRegime};
#[cfg(feature = "gpu")]
use qins_quant::kv::BLOCK;
use qins_quant::{
    FloatDtype,
    kv::{AttentionSpan, Beyond, Heads, KvForm, KvScheme, NewTokens, Rotations},
};

use crate::decoder::{Precision, Rotation, rotated};
#[cfg(feature = "gpu")]
use crate::kernel::{CodedHeads, GpuHeads, Turns, on_cpu};

/// The KV cache of a sequence; it grows with the tokens. Its bookkeeping is the same for every scheme.
#[derive(Clone, Debug)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    /// Of the model's rope, and of its local one.
    rotations: [Option<Arc<Rotations>>; 2],
    /// The same for coded caches on a GPU.
    #[cfg(feature = "gpu")]
    turns: [Option<Turns>; 2],
    len: usize,
}

/// The cache of one block.
#[derive(Clone, Debug)]
pub(crate) struct LayerCache {
    store: Store,
    scheme: KvScheme,
    len: usize,
}

/// How keys and values are stored.
#[derive(Clone, Debug)]
enum Store {
    /// In `f32`, for Burn's operations, on the device: `[kv_heads, capacity, head_dim]` each, of which the first `len` positions are in use. `None`
    /// only during an append.
    Tensors {
        keys: Option<Tensor<3>>,
        values: Option<Tensor<3>>,
    },
    Own(Own),
}

/// Keys and values over which attention is our own.
#[derive(Clone, Debug)]
enum Own {
    /// In any scheme, on the host.
    Host(Heads),
    /// As floats of any type, on a GPU.
    #[cfg(feature = "gpu")]
    Gpu(GpuHeads),
    /// In blocks of codes, on a GPU.
    #[cfg(feature = "gpu")]
    GpuCoded(Box<CodedHeads>),
}

impl KvCache {
    /// An empty cache in `scheme`; on a GPU with capacity for `capacity` tokens.
    pub fn new(config: &ModelConfig, capacity: usize, scheme: KvScheme, device: &Device) -> Self {
        Self::with(config, capacity, scheme, false, device)
    }

    /// As [`new`](Self::new). Attention over a cache in `f32` on a CPU is by Burn's operations if each of their results is `rounded`, or
    /// the device computes gradients; or else by our own kernel, which is faster.
    pub(crate) fn with(
        config: &ModelConfig,
        capacity: usize,
        scheme: KvScheme,
        rounded: bool,
        device: &Device,
    ) -> Self {
        let by_operations = rounded || device.is_autodiff();
        let (heads, dim) = (config.num_key_value_heads, config.head_dim);
        let empty = || Some(Tensor::zeros([heads, capacity.max(1), dim], device));
        let store = |#[cfg_attr(not(feature = "gpu"), expect(unused))] layer: &LayerConfig| match scheme.form() {
            #[cfg(feature = "gpu")]
            KvForm::Floats(dtype) if !on_cpu(device) => {
                Store::Own(Own::Gpu(GpuHeads::new(dtype, heads, dim, capacity, device)))
            }
            // Longer vectors than a kernel reads are on the host.
            #[cfg(feature = "gpu")]
            KvForm::Coded(bits) if !on_cpu(device) && dim <= CodedHeads::MOST_DIM => {
                Store::Own(Own::GpuCoded(Box::new(CodedHeads::new(bits, heads, dim, layer.window, device))))
            }
            KvForm::Floats(FloatDtype::F32) if by_operations => Store::Tensors { keys: empty(), values: empty() },
            KvForm::Floats(_) | KvForm::Coded(_) => Store::Own(Own::Host(Heads::new(scheme, heads, dim))),
        };
        let layers = config.layers.iter().map(|layer| LayerCache { store: store(layer), scheme, len: 0 }).collect();
        Self {
            layers,
            rotations: [None, None],
            #[cfg(feature = "gpu")]
            turns: [None, None],
            len: 0,
        }
    }

    /// The number of tokens in the cache.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether Burn's own attention is used, which needs an explicit mask.
    pub(crate) fn is_tensors(&self) -> bool {
        self.layers.iter().any(|layer| matches!(layer.store, Store::Tensors { .. }))
    }

    /// Whether it has no tokens.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of its keys and values, without unused capacity.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(LayerCache::bytes).sum()
    }

    /// The first layer with keys or values that were finite but beyond the range of the scheme, and one of them; `None` also on a
    /// GPU, from which they would have to be read.
    pub(crate) fn beyond(&self) -> Option<(usize, Beyond)> {
        self.layers.iter().enumerate().find_map(|(layer, cache)| match &cache.store {
            Store::Own(Own::Host(heads)) => heads.beyond().map(|found| (layer, found)),
            #[cfg(feature = "gpu")]
            Store::Own(Own::Gpu(_) | Own::GpuCoded(_)) => None,
            Store::Tensors { .. } => None,
        })
    }

    /// How keys and values are stored.
    pub(crate) fn scheme(&self) -> KvScheme {
        self.layers.first().map_or(KvScheme::F32, |layer| layer.scheme)
    }

    /// Removes all tokens; keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
        self.rotations = [None, None];
        #[cfg(feature = "gpu")]
        {
            self.turns = [None, None];
        }
        for layer in &mut self.layers {
            layer.len = 0;
            match &mut layer.store {
                Store::Tensors { .. } => {}
                Store::Own(Own::Host(heads)) => heads.clear(),
                #[cfg(feature = "gpu")]
                Store::Own(Own::Gpu(heads)) => heads.clear(),
                #[cfg(feature = "gpu")]
                Store::Own(Own::GpuCoded(heads)) => heads.clear(),
            }
        }
    }

    /// The rotations by the model's rope `which` of `n` positions after those of the cache, in the regime that all tokens share.
    pub(crate) fn rotation(
        &mut self,
        which: usize,
        rope: &Rope,
        regime: RopeRegime,
        n: usize,
        device: &Device,
    ) -> Rotation {
        let new = || Arc::new(Rotations::new(rope.frequencies(regime), rope.scaling()));
        let rotations = self.rotations[which].get_or_insert_with(new);
        Arc::make_mut(rotations).extend(self.len + n);
        let rotation = Rotation::new(rotations.clone(), self.len, n, device);
        #[cfg(feature = "gpu")]
        if self.layers.iter().any(|layer| matches!(layer.store, Store::Own(Own::GpuCoded(_)))) {
            let blocks = (self.len + n).div_ceil(BLOCK);
            let turns = self.turns[which].take().filter(|turns| turns.blocks() >= blocks);
            // Twice as many as needed, so that they are seldom made.
            let turns = turns.unwrap_or_else(|| Turns::new(rotations, 2 * blocks, device));
            return rotation.with_turns(self.turns[which].insert(turns).clone());
        }
        rotation
    }

    /// The layers, to append `n` tokens to each.
    pub(crate) fn layers_mut(&mut self, n: usize) -> impl Iterator<Item = &mut LayerCache> {
        self.len += n;
        self.layers.iter_mut()
    }
}

/// How queries attend.
#[derive(Clone, Copy)]
pub(crate) struct Attending {
    /// The first position that any of them attends to.
    pub(crate) first: usize,
    /// The most positions of each; `None` for all.
    pub(crate) window: Option<usize>,
    /// c of a soft cap of the scores.
    pub(crate) softcap: Option<f32>,
}

/// Keys before their rotation.
#[derive(Clone)]
pub(crate) struct Keys<'a> {
    /// `[n, kv_heads·head_dim]`.
    pub(crate) keys: Tensor<2>,
    /// Of a layer with positions.
    pub(crate) rotation: Option<&'a Rotation>,
    /// What rotated keys are rounded to.
    pub(crate) precision: Precision,
}

impl Keys<'_> {
    fn rotated(self, heads: usize) -> Tensor<3> {
        self.precision.keys(rotated(self.keys, heads, self.rotation, self.precision))
    }

    /// As they are, `[heads, n, head_dim]`.
    fn unrotated(self, heads: usize) -> Tensor<3> {
        rotated(self.keys, heads, None, self.precision)
    }
}

/// What an append gives attention.
pub(crate) enum Appended {
    /// Keys and values, `[kv_heads, positions, head_dim]`, from the first visible position on, and the queries, which are still
    /// to attend to them.
    Plain([Tensor<3>; 3]),
    /// The result for the queries, `[kv_heads, group·n, head_dim]`.
    Attended(Tensor<3>),
}

impl LayerCache {
    /// Appends keys, and values `[kv_heads, n, head_dim]`. If attention is our own, queries `[kv_heads, group·n, head_dim]` attend to
    /// them: softmax(q·kᵀ / √dim)·v. Plain ones are returned from the first position that any attends to.
    pub(crate) fn append(
        &mut self,
        k: Keys<'_>,
        v: Tensor<3>,
        q: Tensor<3>,
        Attending { first, window, softcap }: Attending,
    ) -> Appended {
        let start = self.len;
        let [kv_heads, n, _] = v.dims();
        self.len += n;
        let store = match &mut self.store {
            Store::Tensors { keys, values } => {
                let view = (first, self.len);
                let k = k.rotated(kv_heads);
                return Appended::Plain([append(keys, k, start, view), append(values, v, start, view), q]);
            }
            Store::Own(store) => store,
        };
        let rotation = k.rotation;
        let k = store.keys(k, kv_heads);
        let pieces: Vec<_> = self.scheme.pieces(start..start + n).collect();
        let mut attend = |piece: std::ops::Range<usize>, k, v, q| {
            let span = AttentionSpan { start: piece.start, n: piece.len(), window, softcap };
            store.attend(k, v, q, span, rotation)
        };
        if let [all] = &pieces[..] {
            return Appended::Attended(attend(all.clone(), k, v, q));
        }
        let [heads, rows, dim] = q.dims();
        let group = rows / n;
        let q = q.reshape([heads * group, n, dim]);
        let attended = pieces.into_iter().map(|piece| {
            let (tokens, n) = (piece.start - start..piece.end - start, piece.len());
            let part = |x: &Tensor<3>| x.clone().slice_dim(1, tokens.clone());
            let q = part(&q).reshape([heads, group * n, dim]);
            attend(piece, part(&k), part(&v), q).reshape([heads * group, n, dim])
        });
        Appended::Attended(Tensor::cat(attended.collect(), 1).reshape([heads, rows, dim]))
    }

    fn bytes(&self) -> usize {
        match &self.store {
            Store::Tensors { keys, .. } => {
                let [heads, _, dim] = keys.as_ref().map_or([0; 3], Tensor::dims);
                2 * size_of::<f32>() * heads * self.len * dim
            }
            Store::Own(Own::Host(heads)) => heads.bytes(),
            #[cfg(feature = "gpu")]
            Store::Own(Own::Gpu(heads)) => heads.bytes(),
            #[cfg(feature = "gpu")]
            Store::Own(Own::GpuCoded(heads)) => heads.bytes(),
        }
    }
}

impl Own {
    /// Keys, `[heads, n, head_dim]`, as they are appended.
    fn keys(&self, k: Keys<'_>, heads: usize) -> Tensor<3> {
        match self {
            Self::Host(_) => k.unrotated(heads),
            #[cfg(feature = "gpu")]
            Self::GpuCoded(_) => k.unrotated(heads),
            #[cfg(feature = "gpu")]
            Self::Gpu(_) => k.rotated(heads),
        }
    }

    /// Appends keys and values, attends, and drops what no later query attends to.
    fn attend(
        &mut self,
        k: Tensor<3>,
        v: Tensor<3>,
        q: Tensor<3>,
        span: AttentionSpan,
        rotation: Option<&Rotation>,
    ) -> Tensor<3> {
        match self {
            Self::Host(heads) => {
                let rotations = rotation.map(Rotation::all);
                let (shape, device) = (q.dims(), q.device());
                let [keys, values, queries] = [k, v, q].map(host);
                heads.append(NewTokens { keys: &keys, values: &values, queries: &queries }, rotations);
                let attended = heads.attend(&queries, span, rotations);
                if let Some(window) = span.window {
                    heads.drop_before(span.start + span.n, window);
                }
                Tensor::from_data(TensorData::new(attended, shape), &device)
            }
            #[cfg(feature = "gpu")]
            Self::Gpu(heads) => {
                heads.append(k, v);
                heads.attend(q, span)
            }
            #[cfg(feature = "gpu")]
            Self::GpuCoded(heads) => {
                let turns = rotation.and_then(Rotation::turns);
                heads.append(k, v, q.clone(), turns);
                heads.attend(q, span, turns)
            }
        }
    }
}

/// The elements on the host; without a transfer on CPU backends.
fn host(tensor: Tensor<3>) -> Vec<f32> {
    tensor.into_data().try_into_vec_as().expect("floating-point numbers")
}

/// Writes `new` at `start`; returns positions `first..len`.
fn append(cache: &mut Option<Tensor<3>>, new: Tensor<3>, start: usize, (first, len): (usize, usize)) -> Tensor<3> {
    let [heads, n, dim] = new.dims();
    // Taken out, the tensor has one owner, and the backend writes in place.
    let mut all = cache.take().unwrap_or_else(|| Tensor::zeros([heads, len, dim], &new.device()));
    let [_, capacity, _] = all.dims();
    if len > capacity {
        let larger = Tensor::zeros([heads, len.max(2 * capacity), dim], &new.device());
        all = larger.slice_assign([0..heads, 0..start, 0..dim], all.slice([0..heads, 0..start, 0..dim]));
    }
    all = all.slice_assign([0..heads, start..start + n, 0..dim], new);
    let view = all.clone().slice([0..heads, first..len, 0..dim]);
    *cache = Some(all);
    view
}
