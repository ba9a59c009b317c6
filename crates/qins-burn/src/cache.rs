//! The KV cache.

use burn::tensor::{Device, Tensor, TensorData};
use qins_model::ModelConfig;
use qins_quant::kv::{AttentionSpan, Heads, KvScheme};

use crate::device::floats;
#[cfg(feature = "gpu")]
use crate::kernel::{GpuHeads, on_cpu};

/// The KV cache of a sequence; it grows with the tokens. Its bookkeeping is the same for every scheme.
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

/// How keys and values are stored.
#[derive(Clone, Debug)]
enum Store {
    /// Plain, on the device: `[kv_heads, capacity, head_dim]` each, of which the first `len` positions are in use. `None`
    /// only during an append.
    Plain { keys: Option<Tensor<3>>, values: Option<Tensor<3>> },
    /// In another scheme, on the host.
    Encoded(Heads),
    /// In any scheme, on a GPU.
    #[cfg(feature = "gpu")]
    Gpu(GpuHeads),
}

impl KvCache {
    /// An empty cache in `scheme` with capacity for `capacity` tokens.
    pub fn new(config: &ModelConfig, capacity: usize, scheme: KvScheme, device: &Device) -> Self {
        let (heads, dim) = (config.num_key_value_heads, config.head_dim);
        let empty = || Some(Tensor::zeros([heads, capacity.max(1), dim], device));
        let store = || match scheme {
            #[cfg(feature = "gpu")]
            scheme if !on_cpu(device) => Store::Gpu(GpuHeads::new(scheme, heads, dim, capacity, device)),
            KvScheme::F32 => Store::Plain { keys: empty(), values: empty() },
            scheme => Store::Encoded(Heads::new(scheme, heads, dim, capacity)),
        };
        let layers = (0..config.layers.len()).map(|_| LayerCache { store: store(), len: 0 }).collect();
        Self { layers, len: 0 }
    }

    /// The number of tokens in the cache.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether Burn's own attention is used, which needs an explicit mask.
    pub(crate) fn is_plain(&self) -> bool {
        self.layers.iter().any(|layer| matches!(layer.store, Store::Plain { .. }))
    }

    /// Whether it has no tokens.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of its keys and values, without unused capacity.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(LayerCache::bytes).sum()
    }

    /// Removes all tokens; keeps the memory.
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

    /// The layers, to append `n` tokens to each.
    pub(crate) fn layers_mut(&mut self, n: usize) -> impl Iterator<Item = &mut LayerCache> {
        self.len += n;
        self.layers.iter_mut()
    }
}

/// What attention reads of the cache.
pub(crate) enum KvView<'a> {
    /// Keys and values, `[kv_heads, positions, head_dim]`, from the first visible position on.
    Plain(Tensor<3>, Tensor<3>),
    /// All keys and values, encoded.
    Encoded(EncodedKv<'a>),
}

/// Encoded keys and values.
pub(crate) enum EncodedKv<'a> {
    Host(&'a Heads),
    #[cfg(feature = "gpu")]
    Gpu(&'a GpuHeads),
}

impl LayerCache {
    /// Appends `[kv_heads, n, head_dim]` keys and values; returns all of them, plain ones from position `first` on.
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

/// The elements on the host; without a transfer on CPU backends.
fn host(tensor: Tensor<3>) -> Vec<f32> {
    floats(&tensor.into_data())
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
