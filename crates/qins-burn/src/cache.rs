//! Keys and values of the tokens read so far.

use burn::tensor::{Device, Tensor, TensorData};
use qins_model::ModelConfig;
use qins_quant::kv::{AttentionSpan, Heads, KvScheme};

use crate::device::floats;
#[cfg(feature = "gpu")]
use crate::kernel::{GpuHeads, on_cpu};

/// The cache of a sequence, which grows as tokens come. Its bookkeeping is the same however keys and values rest.
#[derive(Clone, Debug)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    len: usize,
}

/// The cache of one block.
#[derive(Clone, Debug)]
pub(crate) struct LayerCache {
    store: Store,
    len: usize,
}

/// How keys and values rest.
#[derive(Clone, Debug)]
enum Store {
    /// Plain, on the device: `[kv_heads, capacity, head_dim]` each, of which the first `len` positions are in use. `None`
    /// only while an append has them.
    Plain { keys: Option<Tensor<3>>, values: Option<Tensor<3>> },
    /// In another form, on the host.
    Encoded(Heads),
    /// In any form, on a GPU.
    #[cfg(feature = "gpu")]
    Gpu(GpuHeads),
}

impl KvCache {
    /// An empty cache with room for `capacity` tokens, which rest as `scheme` says.
    pub fn new(config: &ModelConfig, capacity: usize, scheme: KvScheme, device: &Device) -> Self {
        let (heads, dim) = (config.num_key_value_heads, config.head_dim);
        let empty = || Some(Tensor::zeros([heads, capacity.max(1), dim], device));
        let store = || match scheme {
            #[cfg(feature = "gpu")]
            scheme if !on_cpu(device) => Store::Gpu(GpuHeads::new(scheme, heads, dim, capacity, device)),
            KvScheme::F32 => Store::Plain { keys: empty(), values: empty() },
            scheme => Store::Encoded(Heads::new(scheme, heads, dim, capacity)),
        };
        let layers = (0..config.num_hidden_layers).map(|_| LayerCache { store: store(), len: 0 }).collect();
        Self { layers, len: 0 }
    }

    /// Tokens in the cache.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether what queries see must be said to Burn's own attention.
    pub(crate) fn is_plain(&self) -> bool {
        self.layers.iter().any(|layer| matches!(layer.store, Store::Plain { .. }))
    }

    /// Whether it holds no token.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the keys and values in it; what is allocated ahead of them is not counted.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(LayerCache::bytes).sum()
    }

    /// Forgets all tokens, and keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
        for layer in &mut self.layers {
            layer.len = 0;
            match &mut layer.store {
                Store::Plain { .. } => {}
                Store::Encoded(heads) => heads.clear(),
                #[cfg(feature = "gpu")]
                Store::Gpu(heads) => heads.clear(),
            }
        }
    }

    /// The layers, each about to be given `n` more tokens.
    pub(crate) fn layers_mut(&mut self, n: usize) -> impl Iterator<Item = &mut LayerCache> {
        self.len += n;
        self.layers.iter_mut()
    }
}

/// What attention finds in the cache.
pub(crate) enum KvView<'a> {
    /// Keys and values, `[kv_heads, positions, head_dim]`, from the first position that is seen.
    Plain(Tensor<3>, Tensor<3>),
    /// All of them, in their own form.
    Encoded(EncodedKv<'a>),
}

/// Keys and values in their own form.
pub(crate) enum EncodedKv<'a> {
    Host(&'a Heads),
    #[cfg(feature = "gpu")]
    Gpu(&'a GpuHeads),
}

impl LayerCache {
    /// Adds `[kv_heads, n, head_dim]` keys and values; gives all of them, plain ones from position `first` on.
    pub(crate) fn append(&mut self, k: Tensor<3>, v: Tensor<3>, first: usize) -> KvView<'_> {
        let start = self.len;
        self.len += k.dims()[1];
        match &mut self.store {
            Store::Plain { keys, values } => {
                let view = (first, self.len);
                KvView::Plain(append(keys, k, start, view), append(values, v, start, view))
            }
            Store::Encoded(heads) => {
                heads.append(&host(k), &host(v));
                KvView::Encoded(EncodedKv::Host(heads))
            }
            #[cfg(feature = "gpu")]
            Store::Gpu(heads) => {
                heads.append(k, v);
                KvView::Encoded(EncodedKv::Gpu(heads))
            }
        }
    }

    fn bytes(&self) -> usize {
        match &self.store {
            Store::Plain { keys, .. } => {
                let [heads, _, dim] = keys.as_ref().map_or([0; 3], Tensor::dims);
                2 * size_of::<f32>() * heads * self.len * dim
            }
            Store::Encoded(heads) => heads.bytes(),
            #[cfg(feature = "gpu")]
            Store::Gpu(heads) => heads.bytes(),
        }
    }
}

impl EncodedKv<'_> {
    /// softmax(q·kᵀ / √dim)·v of queries `[kv_heads, group·n, head_dim]`.
    pub(crate) fn attend(&self, queries: Tensor<3>, span: AttentionSpan) -> Tensor<3> {
        match self {
            Self::Host(heads) => {
                let (shape, device) = (queries.dims(), queries.device());
                Tensor::from_data(TensorData::new(heads.attend(&host(queries), span), shape), &device)
            }
            #[cfg(feature = "gpu")]
            Self::Gpu(heads) => heads.attend(queries, span),
        }
    }
}

/// What a CPU backend has at hand anyway.
fn host(tensor: Tensor<3>) -> Vec<f32> {
    floats(&tensor.into_data())
}

/// Writes `new` at `start` and gives positions `first..len`.
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
