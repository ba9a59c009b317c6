//! The KV cache of a block on a GPU.

use burn::{
    backend::{
        Dispatch, ExtensionType, TensorMetadata, backend_extension,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::{DType, Device, Int, Tensor},
};
use burn_cubecl::{CubeBackend, cubecl::prelude::*, tensor::CubeTensor};
use qins_quant::{
    FloatDtype,
    kv::{AttentionSpan, KvForm},
};

use super::{
    attend::{self, SeenLaunch, Shape},
    codes::{ClosedLaunch, Codes},
    empty, floats, hadamard,
    kv::{self, Form, VectorsLaunch},
    squares,
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
    /// The largest magnitude of an element.
    most: f32,
    heads: usize,
    dim: usize,
    capacity: usize,
    len: usize,
}

/// Keys or values.
#[derive(Clone, Debug)]
pub(super) struct Vectors {
    form: Form,
    pub(super) words: Tensor<2, Int>,
}

impl Heads {
    /// An empty cache with capacity for `capacity` tokens.
    pub(crate) fn new(dtype: FloatDtype, heads: usize, dim: usize, capacity: usize, device: &Device) -> Self {
        let capacity = capacity.max(1);
        let [most, _] = KvForm::Floats(dtype).most(dim);
        let vectors = || Vectors::new(dtype.into(), heads, dim, capacity, device);
        Self { vectors: Some([vectors(), vectors()]), most, heads, dim, capacity, len: 0 }
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
        self.vectors = Some([keys.append(k, start, self.most), values.append(v, start, self.most)]);
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
    pub(super) fn new(form: Form, heads: usize, dim: usize, capacity: usize, device: &Device) -> Self {
        Self { form, words: Tensor::empty([heads, form.words(dim, capacity)], (device, DType::U32)) }
    }

    fn grown(self, heads: usize, dim: usize, capacity: usize) -> Self {
        let larger = Self::new(self.form, heads, dim, capacity, &self.words.device());
        let [_, words] = self.words.dims();
        Self { words: larger.words.slice_assign([0..heads, 0..words], self.words), ..self }
    }

    /// With `[heads, n, dim]` more after the first `start`; elements of a larger magnitude than `most` are NaN.
    pub(super) fn append(self, new: Tensor<3>, start: usize, most: f32) -> Self {
        let Encoded { form, words } = Dispatch::qins_append(new.into_dispatch(), self.into(), start, most);
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

/// The blocks of a coded cache.
#[derive(Clone, Copy, Debug)]
pub struct Blocks {
    pub(super) codes: Codes,
    /// The number of those that are closed.
    pub(super) closed: usize,
    /// Block i is in place of block i − `ring`.
    pub(super) ring: usize,
}

/// The cache operations of a GPU backend.
#[backend_extension(Cube, Fusion)]
pub trait CacheBackend: burn::backend::Backend {
    /// Appends vectors `[heads, n, dim]` after the first `start`; elements of a larger magnitude than `most` are NaN.
    #[fusion(meta = |_, cache, _, _| cache.clone())]
    fn qins_append(
        new: FloatTensor<Self>,
        #[extension_type] cache: Encoded<Self>,
        start: usize,
        most: f32,
    ) -> Encoded<Self>;

    /// Attention of queries `[heads, group·n, dim]`.
    #[fusion(dtype = queries, shape = queries)]
    fn qins_attend(
        queries: FloatTensor<Self>,
        #[extension_type] keys: Encoded<Self>,
        #[extension_type] values: Encoded<Self>,
        span: AttentionSpan,
    ) -> FloatTensor<Self>;

    /// The same of a coded cache, whose open block is `keys` and `values`, and whose closed blocks are `closed[heads, words]`. The result is of
    /// transformed values.
    #[fusion(dtype = queries, shape = queries)]
    fn qins_attend_coded(
        queries: FloatTensor<Self>,
        #[extension_type] keys: Encoded<Self>,
        #[extension_type] values: Encoded<Self>,
        closed: IntTensor<Self>,
        turns: FloatTensor<Self>,
        blocks: Blocks,
        span: AttentionSpan,
    ) -> FloatTensor<Self>;

    /// The Hadamard transform of vectors `x[heads, n, dim]`; elements of a larger magnitude than `most` are NaN.
    #[fusion(dtype = x, shape = x)]
    fn qins_hadamard(x: FloatTensor<Self>, most: f32) -> FloatTensor<Self>;

    /// Adds to `sums[heads, dim]` the squares of queries `[heads, group·n, dim]`, without those of the first `skip` of `n` tokens.
    #[fusion(dtype = sums, shape = sums)]
    fn qins_add_squares(
        sums: FloatTensor<Self>,
        queries: FloatTensor<Self>,
        n: usize,
        skip: usize,
    ) -> FloatTensor<Self>;
}

impl CacheBackend for CubeBackend {
    fn qins_append(new: FloatTensor<Self>, cache: Encoded<Self>, start: usize, most: f32) -> Encoded<Self> {
        let new = floats(new);
        let shape = new.shape();
        let (heads, n, dim) = (shape[0], shape[1], shape[2]);
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
                    most.to_bits(),
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
        span: AttentionSpan,
    ) -> FloatTensor<Self> {
        attended(queries, keys, values, None, span)
    }

    fn qins_attend_coded(
        queries: FloatTensor<Self>,
        keys: Encoded<Self>,
        values: Encoded<Self>,
        closed: IntTensor<Self>,
        turns: FloatTensor<Self>,
        blocks: Blocks,
        span: AttentionSpan,
    ) -> FloatTensor<Self> {
        attended(queries, keys, values, Some((closed, floats(turns), blocks)), span)
    }

    fn qins_hadamard(x: FloatTensor<Self>, most: f32) -> FloatTensor<Self> {
        let x = floats(x);
        let shape = x.shape();
        let (n, dim) = (shape[0] * shape[1], shape[2]);
        let y = empty(&x, shape, x.dtype);
        let client = x.client.clone();
        let run = 1 << dim.trailing_zeros();
        let [x, out] = [x, y.clone()].map(CubeTensor::into_buffer_arg);
        // SAFETY: a cube reads and writes its vector, of `dim` elements, if there is one.
        unsafe {
            hadamard::hadamard::launch_unchecked(
                &client,
                super::spread(n),
                CubeDim::new_1d(hadamard::UNITS),
                x,
                out,
                n as u32,
                most.to_bits(),
                1.0 / (run as f32).sqrt(),
                dim as u32,
                run,
            );
        }
        y
    }

    fn qins_add_squares(
        sums: FloatTensor<Self>,
        queries: FloatTensor<Self>,
        n: usize,
        skip: usize,
    ) -> FloatTensor<Self> {
        let (queries, sums) = (floats(queries), own(floats(sums)));
        let shape = queries.shape();
        let (heads, rows, dim) = (shape[0], shape[1], shape[2]);
        let client = sums.client.clone();
        let [queries, out] = [queries, sums.clone()].map(CubeTensor::into_buffer_arg);
        // SAFETY: one unit for each number of `sums`, and none beyond; it reads a channel of the queries of its head.
        unsafe {
            squares::add::launch_unchecked(
                &client,
                super::spread((heads * dim).div_ceil(squares::UNITS)),
                CubeDim::new_1d(squares::UNITS as u32),
                queries,
                out,
                heads as u32,
                (rows / n) as u32,
                n as u32,
                dim as u32,
                skip as u32,
            );
        }
        sums
    }
}

/// To be written in place, unless the tensor is shared.
fn own(tensor: CubeTensor) -> CubeTensor {
    if tensor.can_mut() { tensor } else { tensor.copy() }
}

/// Attention over all tokens, or if there are closed blocks, over them and the open one.
fn attended(
    queries: CubeTensor,
    keys: Encoded<CubeBackend>,
    values: Encoded<CubeBackend>,
    coded: Option<(CubeTensor, CubeTensor, Blocks)>,
    AttentionSpan { start, n, window, softcap }: AttentionSpan,
) -> CubeTensor {
    let queries = floats(queries);
    let shape = queries.shape();
    let (heads, rows, dim) = (shape[0], shape[1], shape[2]);
    let (client, dtype) = (queries.client.clone(), queries.dtype);
    let shared = client.properties().hardware.max_shared_memory_size;
    let most = if rows == 1 { 1 } else { 16 };
    let codes = coded.as_ref().map(|(_, _, blocks)| blocks.codes);
    let tile =
        Shape { dim: dim as u32, queries: most, step: 32, keys: keys.form, values: values.form, codes }.within(shared);
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
    // Floats are all in their vectors; what stands for the other parts is not read.
    let (closed, turns, blocks) = coded.map_or_else(
        || (keys.words.clone(), queries.clone(), [0, 1]),
        |(closed, turns, blocks)| (closed, turns, [blocks.closed, blocks.ring]),
    );
    let [closed_blocks, ring] = blocks.map(|number| u32::try_from(number).unwrap_or(u32::MAX));
    let stride = closed.meta.strides()[0] as u32;
    let closed = ClosedLaunch::new(closed.into_buffer_arg(), stride, closed_blocks, ring);
    let vectors = |encoded: Encoded<CubeBackend>| {
        let stride = encoded.words.meta.strides()[0] as u32;
        VectorsLaunch::new(encoded.words.into_buffer_arg(), stride)
    };
    let seen = SeenLaunch::new(
        start as u32,
        n as u32,
        window.and_then(|window| u32::try_from(window).ok()).unwrap_or(u32::MAX),
    );
    // SAFETY: the kernel reads the vectors or blocks of `start + n` tokens, which were appended, and writes each part's results.
    unsafe {
        attend::attend::launch_unchecked(
            &client,
            CubeCount::Static(parts as u32, tiles as u32, heads as u32),
            CubeDim::new_1d(attend::UNITS as u32),
            queries.into_buffer_arg(),
            vectors(keys),
            vectors(values),
            closed,
            turns.into_buffer_arg(),
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
