//! Keys and values of the tokens read so far.

use burn::tensor::{Device, Tensor};

use crate::phi3::ModelConfig;

/// The cache of a sequence, allocated once and grown by doubling should it have to.
#[derive(Clone, Debug)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    len: usize,
}

/// The cache of one block: `[kv_heads, capacity, head_dim]` each, of which the first `len` positions are in use.
#[derive(Clone, Debug)]
pub(crate) struct LayerCache {
    /// `None` only while an append has them.
    keys: Option<Tensor<3>>,
    values: Option<Tensor<3>>,
    len: usize,
}

impl KvCache {
    /// An empty cache with room for `capacity` tokens.
    pub fn new(config: &ModelConfig, capacity: usize, device: &Device) -> Self {
        let shape = [config.num_key_value_heads, capacity.max(1), config.head_dim];
        let empty = || Some(Tensor::zeros(shape, device));
        let layers =
            (0..config.num_hidden_layers).map(|_| LayerCache { keys: empty(), values: empty(), len: 0 }).collect();
        Self { layers, len: 0 }
    }

    /// Tokens in the cache.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no token.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all tokens, and keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
        self.layers.iter_mut().for_each(|layer| layer.len = 0);
    }

    /// The layers, each about to be given `n` more tokens.
    pub(crate) fn layers_mut(&mut self, n: usize) -> impl Iterator<Item = &mut LayerCache> {
        self.len += n;
        self.layers.iter_mut()
    }
}

impl LayerCache {
    /// Adds `[kv_heads, n, head_dim]` keys and values; gives all of them from position `first` on.
    pub(crate) fn append(&mut self, k: Tensor<3>, v: Tensor<3>, first: usize) -> (Tensor<3>, Tensor<3>) {
        let start = self.len;
        self.len += k.dims()[1];
        let view = (first, self.len);
        (append(&mut self.keys, k, start, view), append(&mut self.values, v, start, view))
    }
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
