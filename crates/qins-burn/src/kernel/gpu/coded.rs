//! A coded cache of a layer on a GPU: its open block as floats, and closed blocks as words, which attention reads as they are.
//!
//! A block is encoded on the host, by the encoder of CPU caches: once for 64 tokens what the device holds of them is read back.

use burn::{
    backend::Dispatch,
    tensor::{DType, Device, Int, Tensor, TensorData, Transaction},
};
use qins_quant::kv::{AttentionSpan, BLOCK, BlockEncoder, BlockLayout, CodedBits, FullBlock, KvForm, Rotations, SINKS};
use rayon::prelude::*;

use super::{
    cache::{Blocks, CacheBackend, Vectors},
    codes::Codes,
    kv::Form,
};

/// Keys before their rotation, and values, of all KV heads of a layer, in blocks of codes.
#[derive(Clone, Debug)]
pub struct CodedHeads {
    layout: BlockLayout,
    heads: usize,
    /// Block i is in place of block i − `ring`, to which no query attends any longer.
    ring: usize,
    window: Option<usize>,
    /// Keys, and transformed values, after the closed blocks; `None` only during an append.
    open: Option<[Vectors; 2]>,
    /// `[heads, words]`, as [`BlockLayout`] has them, with room for `room` blocks; `None` before the first.
    closed: Option<Tensor<2, Int>>,
    room: usize,
    /// One for each head.
    encoders: Vec<BlockEncoder>,
    /// Σ q² of the queries in each channel, `[heads, dim]`, and their number; without those of the sinks.
    squares: Option<Tensor<2>>,
    queries: usize,
    /// Tokens, and closed blocks, in all, and how many of these no later query attends to.
    len: usize,
    blocks: usize,
    dropped: usize,
    /// The largest magnitudes of an element of keys and of values.
    most: [f32; 2],
}

/// How positions turn keys and queries.
#[derive(Clone, Debug)]
pub struct Turns {
    pairs: usize,
    blocks: usize,
    /// [`Rotations::by_block`].
    table: Tensor<1>,
}

impl Turns {
    /// Those of the first `blocks` blocks.
    pub fn new(rotations: &Rotations, blocks: usize, device: &Device) -> Self {
        let table = rotations.by_block(blocks);
        let n = table.len();
        Self { pairs: rotations.pairs(), blocks, table: Tensor::from_data(TensorData::new(table, [n]), device) }
    }

    /// The number of blocks that they reach.
    pub fn blocks(&self) -> usize {
        self.blocks
    }
}

impl CodedHeads {
    /// The most elements of a vector.
    pub const MOST_DIM: usize = BlockLayout::MOST_DIM;

    /// An empty cache for `heads` heads whose vectors have `dim` elements, and of whose tokens a query attends to at most `window`.
    ///
    /// # Panics
    /// When `dim` is more than [`MOST_DIM`](Self::MOST_DIM).
    pub fn new(bits: CodedBits, heads: usize, dim: usize, window: Option<usize>, device: &Device) -> Self {
        assert!(dim <= Self::MOST_DIM, "a coded cache: at most {} elements", Self::MOST_DIM);
        let layout = BlockLayout { bits, dim };
        let vectors = || Vectors::new(Form::Float, heads, dim, BLOCK, device);
        Self {
            layout,
            heads,
            ring: window.map_or(usize::MAX, |window| window.div_ceil(BLOCK).max(1)),
            window,
            open: Some([vectors(), vectors()]),
            closed: None,
            room: 0,
            encoders: vec![BlockEncoder::new(bits, dim); heads],
            squares: Some(Tensor::zeros([heads, dim], device)),
            queries: 0,
            len: 0,
            blocks: 0,
            dropped: 0,
            most: KvForm::Coded(bits).most(dim),
        }
    }

    /// Removes all tokens; keeps the memory.
    pub fn clear(&mut self) {
        let BlockLayout { bits, dim } = self.layout;
        self.encoders = vec![BlockEncoder::new(bits, dim); self.heads];
        self.squares = self.squares.take().map(|squares| squares.zeros_like());
        (self.queries, self.len, self.blocks, self.dropped) = (0, 0, 0, 0);
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        let BlockLayout { dim, .. } = self.layout;
        let first = match (self.blocks, self.dropped) {
            (0, _) => 0,
            (_, 0) => self.layout.head(),
            _ => dim,
        };
        let blocks = (self.blocks - self.dropped) * self.layout.block();
        4 * self.heads * (first + blocks + 2 * dim * (self.len - self.blocks * BLOCK))
    }

    /// Appends keys, before their rotation, and values `[heads, n, dim]`, and what their rotated queries `[heads, group·n, dim]` say of the
    /// channels. What no query attends to is dropped.
    ///
    /// As in [`Heads`](qins_quant::kv::Heads), a full block is closed when the next token comes, and an element that is not finite, or out of range,
    /// becomes NaN with all that share a scale with it.
    ///
    /// # Panics
    /// When keys, values and queries are not of the same tokens of all heads, or the tokens of more than one block: they come in the
    /// [`pieces`](qins_quant::kv::KvScheme::pieces) of the scheme.
    pub fn append(&mut self, k: Tensor<3>, v: Tensor<3>, queries: Tensor<3>, turns: Option<&Turns>) {
        let [_, n, _] = k.dims();
        let [_, rows, _] = queries.dims();
        let shape = |rows| [self.heads, rows, self.layout.dim];
        assert_eq!(
            [k.dims(), v.dims(), queries.dims()],
            [shape(n), shape(n), shape(rows)],
            "append: vectors of all heads"
        );
        assert!(rows.is_multiple_of(n), "append: queries of the same tokens");
        if self.len == (self.blocks + 1) * BLOCK {
            self.close(turns);
        }
        let start = self.len - self.blocks * BLOCK;
        assert!(start + n <= BLOCK, "append: tokens of one block");
        // Taken out, the tensors have one owner, so that they are written in place.
        let [keys, values] = self.open.take().expect("no append was cut short");
        let v = hadamard(v, self.most[1]);
        self.open = Some([keys.append(k, start, self.most[0]), values.append(v, start, f32::MAX)]);
        let skip = SINKS.saturating_sub(self.len).min(n);
        let squares = self.squares.take().expect("no append was cut short").into_dispatch();
        let squares = Dispatch::qins_add_squares(squares, queries.into_dispatch(), n, skip);
        self.squares = Some(Tensor::from_dispatch(squares));
        self.queries += rows / n * (n - skip);
        self.len += n;
        let unseen = self.window.map_or(0, |window| (self.len + 1).saturating_sub(window) / BLOCK);
        self.dropped = self.dropped.max(unseen.min(self.blocks));
    }

    /// softmax(q·kᵀ / √dim)·v of rotated queries `[heads, group·n, dim]`, the `n` latest tokens'.
    ///
    /// # Panics
    /// When the queries are not of `n` tokens and all heads, `span` does not end with the tokens that were appended, or `turns` do not reach
    /// all of them.
    pub fn attend(&self, queries: Tensor<3>, span: AttentionSpan, turns: Option<&Turns>) -> Tensor<3> {
        let [keys, values] = self.open.clone().expect("no append was cut short");
        let [heads, rows, dim] = queries.dims();
        assert_eq!([heads, dim], [self.heads, self.layout.dim], "attend: vectors of all heads");
        assert!(rows.is_multiple_of(span.n) && span.start + span.n == self.len, "attend: queries of the latest tokens");
        let pairs = turns.map_or(0, |turns| turns.pairs);
        let reach = turns.is_none_or(|turns| turns.blocks * BLOCK >= self.len);
        assert!(reach && 2 * pairs <= dim, "attend: turns of all tokens and of channels that there are");
        // Without rotations there is no table, and nothing is read of it.
        let table = match turns.filter(|turns| turns.pairs > 0) {
            Some(turns) => turns.table.clone().into_dispatch(),
            None => queries.clone().into_dispatch(),
        };
        let blocks =
            Blocks { codes: Codes { layout: self.layout, pairs: pairs as u32 }, closed: self.blocks, ring: self.ring };
        // Nothing is read of what stands for it while there is none.
        let closed = self.closed.clone().unwrap_or_else(|| keys.words.clone()).into_dispatch();
        let (keys, values) = (keys.into(), values.into());
        let sums = Dispatch::qins_attend_coded(queries.into_dispatch(), keys, values, closed, table, blocks, span);
        hadamard(Tensor::from_dispatch(sums), f32::MAX)
    }

    /// Closes the open block.
    fn close(&mut self, turns: Option<&Turns>) {
        let BlockLayout { dim, .. } = self.layout;
        let [keys, values] = self.open.as_ref().expect("no append was cut short");
        let device = keys.words.device();
        let squares = self.squares.clone().expect("no append was cut short");
        let read = Transaction::default().register(keys.words.clone()).register(values.words.clone()).register(squares);
        let read = read.execute();
        let [keys, values] =
            [&read[0], &read[1]].map(|words| -> Vec<f32> { words.iter::<u32>().map(f32::from_bits).collect() });
        let squares: Vec<f32> = read[2].try_to_vec_as().expect("floating-point numbers");
        let (queries, pairs) = (self.queries as f32, turns.map_or(0, |turns| turns.pairs));
        let blocks = keys.par_chunks(BLOCK * dim).zip(values.par_chunks(BLOCK * dim)).zip(squares.par_chunks(dim));
        let words: Vec<u32> = self
            .encoders
            .par_iter_mut()
            .zip(blocks)
            .flat_map_iter(|(encoder, ((keys, values), squares))| {
                encoder.words(FullBlock { keys, values, squares, queries, pairs })
            })
            .collect();
        let slot = self.blocks % self.ring;
        if slot >= self.room {
            self.grow((slot + 1).max(2 * self.room).min(self.ring), &device);
        }
        // Those of the head are before the first block's.
        let start = if self.blocks == 0 { 0 } else { self.layout.head() + slot * self.layout.block() };
        let n = words.len() / self.heads;
        let words = Tensor::from_data(TensorData::new(words, [self.heads, n]), (&device, DType::U32));
        // Taken out, the tensor has one owner, so that it is written in place.
        let closed = self.closed.take().expect("room for the block");
        self.closed = Some(closed.slice_assign([0..self.heads, start..start + n], words));
        self.blocks += 1;
    }

    fn grow(&mut self, room: usize, device: &Device) {
        let words = self.layout.head() + room * self.layout.block();
        let larger = Tensor::empty([self.heads, words], (device, DType::U32));
        self.closed = Some(match self.closed.take() {
            Some(before) => {
                let [heads, n] = before.dims();
                larger.slice_assign([0..heads, 0..n], before)
            }
            None => larger,
        });
        self.room = room;
    }
}

/// The Hadamard transform of vectors `[heads, n, dim]`; elements of a larger magnitude than `most` are NaN.
fn hadamard(x: Tensor<3>, most: f32) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::qins_hadamard(x.into_dispatch(), most))
}
