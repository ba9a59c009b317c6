//! The KV cache of a block on a GPU.

use burn::{
    backend::{
        Dispatch, ExtensionType, TensorMetadata, backend_extension,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::{DType, Device, Int, Tensor},
};
use burn_cubecl::{CubeBackend, cubecl::prelude::*, tensor::CubeTensor};
use qins_quant::{FloatDtype, kv::AttentionSpan};

use super::{
    attend::{self, SeenLaunch, Shape},
    empty, floats,
    kv::{self, Form, VectorsLaunch},
};

/// The number of cubes that occupies a large device: with few queries, their tokens are split into parts.
const CUBES: usize = 1024;
/// Maximum number of vectors that a launch appends.
const MOST: usize = 65_535;
/// Minimum number of tokens in a part.
const SHARE: usize = 128;

/// Keys and values of a block, `[kv_heads, …]`, in words.
#[derive(Clone, Debug)]
pub(crate) struct Heads {
    /// Keys and values; `None` only during an append.
    vectors: Option<[Vectors; 2]>,
    heads: usize,
    dim: usize,
    capacity: usize,
    len: usize,
}

#[derive(Clone, Debug)]
struct Vectors {
    form: Form,
    words: Tensor<2, Int>,
}

impl Heads {
    /// An empty cache with capacity for `capacity` tokens.
    pub(crate) fn new(dtype: FloatDtype, heads: usize, dim: usize, capacity: usize, device: &Device) -> Self {
        let capacity = capacity.max(1);
        let vectors = || Vectors::new(dtype.into(), heads, dim, capacity, device);
        Self { vectors: Some([vectors(), vectors()]), heads, dim, capacity, len: 0 }
    }

    /// Removes all tokens; keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// Bytes in use.
    pub(crate) fn bytes(&self) -> usize {
        let words = |vectors: &Vectors| vectors.form.words(self.dim, self.len);
        4 * self.heads * self.vectors.iter().flatten().map(words).sum::<usize>()
    }

    /// Appends `[heads, n, dim]` keys and values.
    pub(crate) fn append(&mut self, k: Tensor<3>, v: Tensor<3>) {
        let [_, n, _] = k.dims();
        let (start, len) = (self.len, self.len + n);
        // Taken out, the tensors have one owner, so that they are written in place.
        let [mut keys, mut values] = self.vectors.take().expect("no append was cut short");
        if len > self.capacity {
            self.capacity = len.max(2 * self.capacity);
            [keys, values] = [keys, values].map(|vectors| vectors.grown(self.heads, self.dim, self.capacity));
        }
        self.vectors = Some([keys.append(k, start), values.append(v, start)]);
        self.len = len;
    }

    /// softmax(q·kᵀ / √dim)·v of queries `[heads, group·n, dim]`.
    pub(crate) fn attend(&self, queries: Tensor<3>, span: AttentionSpan) -> Tensor<3> {
        let [keys, values] = self.vectors.clone().expect("no append was cut short");
        let (keys, values) = (keys.into(), values.into());
        Tensor::from_dispatch(Dispatch::qins_attend(queries.into_dispatch(), keys, values, span))
    }
}

impl Vectors {
    fn new(form: Form, heads: usize, dim: usize, capacity: usize, device: &Device) -> Self {
        Self { form, words: Tensor::empty([heads, form.words(dim, capacity)], (device, DType::U32)) }
    }

    fn grown(self, heads: usize, dim: usize, capacity: usize) -> Self {
        let larger = Self::new(self.form, heads, dim, capacity, &self.words.device());
        let [_, words] = self.words.dims();
        Self { words: larger.words.slice_assign([0..heads, 0..words], self.words), ..self }
    }

    fn append(self, new: Tensor<3>, start: usize) -> Self {
        let Encoded { form, words } = Dispatch::qins_append(new.into_dispatch(), self.into(), start);
        Self { form, words: Tensor::from_dispatch(words) }
    }
}

impl From<Vectors> for Encoded<Dispatch> {
    fn from(vectors: Vectors) -> Self {
        Self { form: vectors.form, words: vectors.words.into_dispatch() }
    }
}

/// [`Vectors`] with a backend's own tensors.
#[derive(ExtensionType)]
#[extension_type(fusion)]
pub struct Encoded<B: burn::backend::Backend> {
    form: Form,
    words: IntTensor<B>,
}

/// The cache operations of a GPU backend.
#[backend_extension(Cube, Fusion)]
pub trait CacheBackend: burn::backend::Backend {
    /// Appends vectors `[heads, n, dim]` after the first `start`.
    #[fusion(meta = |_, cache, _| cache.clone())]
    fn qins_append(new: FloatTensor<Self>, #[extension_type] cache: Encoded<Self>, start: usize) -> Encoded<Self>;

    /// Attention of queries `[heads, group·n, dim]`.
    #[fusion(dtype = queries, shape = queries)]
    fn qins_attend(
        queries: FloatTensor<Self>,
        #[extension_type] keys: Encoded<Self>,
        #[extension_type] values: Encoded<Self>,
        span: AttentionSpan,
    ) -> FloatTensor<Self>;
}

impl CacheBackend for CubeBackend {
    fn qins_append(new: FloatTensor<Self>, cache: Encoded<Self>, start: usize) -> Encoded<Self> {
        let new = floats(new);
        let shape = new.shape();
        let (heads, n, dim) = (shape[0], shape[1], shape[2]);
        // Written in place, unless the tensor is shared.
        let own = |tensor: CubeTensor| if tensor.can_mut() { tensor } else { tensor.copy() };
        let (form, client) = (cache.form, new.client.clone());
        let words = own(cache.words);
        let stride = words.meta.strides()[0] as u32;
        let part = |tensor: &CubeTensor| tensor.clone().into_buffer_arg();
        let mut done = 0;
        while done < n {
            // Some devices allow at most `MOST` cubes in one dimension.
            let more = MOST.min(n - done);
            // SAFETY: the kernel reads `more` of the new vectors, from `done` on, and writes as many, for which there is room.
            unsafe {
                kv::append::launch_unchecked(
                    &client,
                    CubeCount::Static(more as u32, heads as u32, 1),
                    CubeDim::new_1d(kv::UNITS),
                    part(&new),
                    part(&words),
                    stride,
                    (start + done) as u32,
                    n as u32,
                    done as u32,
                    dim as u32,
                    form,
                );
            }
            done += more;
        }
        Encoded { form, words }
    }

    fn qins_attend(
        queries: FloatTensor<Self>,
        keys: Encoded<Self>,
        values: Encoded<Self>,
        AttentionSpan { start, n, window, softcap }: AttentionSpan,
    ) -> FloatTensor<Self> {
        let queries = floats(queries);
        let shape = queries.shape();
        let (heads, rows, dim) = (shape[0], shape[1], shape[2]);
        let (client, dtype) = (queries.client.clone(), queries.dtype);
        let shared = client.properties().hardware.max_shared_memory_size;
        let most = if rows == 1 { 1 } else { 16 };
        let tile = Shape::within(shared, most, dim as u32, keys.form, values.form);
        let tiles = rows.div_ceil(tile.queries as usize);
        // As many parts as occupy the device, each a whole number of steps.
        let len = start + n;
        let parts = CUBES.div_ceil(heads * tiles).min(len.div_ceil(SHARE)).max(1);
        let share = len.div_ceil(parts).next_multiple_of(tile.step as usize);
        let parts = len.div_ceil(share);
        let out = empty(&queries, shape, dtype);
        let results = empty(&queries, [parts * heads * rows, dim].into(), dtype);
        let tops = empty(&queries, [parts * heads * rows, 2].into(), dtype);
        let arg = |tensor: &CubeTensor| tensor.clone().into_buffer_arg();
        let vectors = |encoded: Encoded<Self>| {
            let stride = encoded.words.meta.strides()[0] as u32;
            VectorsLaunch::new(encoded.words.into_buffer_arg(), stride)
        };
        let seen = SeenLaunch::new(
            start as u32,
            n as u32,
            window.and_then(|window| u32::try_from(window).ok()).unwrap_or(u32::MAX),
        );
        // SAFETY: the kernel reads the vectors of `start + n` tokens, which were appended, and writes each part's results.
        unsafe {
            attend::attend::launch_unchecked(
                &client,
                CubeCount::Static(parts as u32, tiles as u32, heads as u32),
                CubeDim::new_1d(attend::UNITS as u32),
                queries.into_buffer_arg(),
                vectors(keys),
                vectors(values),
                arg(&results),
                arg(&tops),
                seen,
                rows as u32,
                share as u32,
                1.0 / (dim as f32).sqrt(),
                // Without a cap, no score is beyond it.
                softcap.unwrap_or(0.0),
                tile,
            );
        }
        let rows = heads * rows;
        // SAFETY: one unit for each number of `out`, and none beyond.
        unsafe {
            attend::combine::launch_unchecked(
                &client,
                super::spread((rows * dim).div_ceil(attend::UNITS)),
                CubeDim::new_1d(attend::UNITS as u32),
                results.into_buffer_arg(),
                tops.into_buffer_arg(),
                arg(&out),
                rows as u32,
                parts as u32,
                dim as u32,
            );
        }
        out
    }
}
