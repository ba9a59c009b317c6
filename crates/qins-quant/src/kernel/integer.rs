//! The integer product: y = Σ_b (Σ_{i ∈ b} wᵢ·aᵢ)·(step_b·unit_b), over blocks b of 256 columns.
//!
//! wᵢ is an integer weight ([`Row`](super::row::Row)) and unit_b what a weight of 1 stands for; aᵢ and step_b are the
//! [`Activations`]. The inner sums are exact in 32 bits, and the outer sum is taken in the order of the blocks. So the result
//! has the same bits on every instruction set, for any number of threads, and for a row of activations alone or in a batch.

use rayon::prelude::*;

use super::{
    activations::{Activations, BLOCK},
    isa::{Compute, Isa},
    levels::Companded,
    panel::{self, PANEL, TILE, Words},
    prefetch::later_block,
    row::Matrix,
};

/// Up to so many rows of activations that are not a whole tile are multiplied one by one, as a tile takes as long: fewer if there
/// are other tiles, for which the weights are unpacked in any case.
fn few(w: &Matrix<'_>, m: usize) -> usize {
    match (w.has_byte_levels(), m < TILE) {
        (true, true) => 6,
        (true, false) | (false, true) => 4,
        (false, false) => 2,
    }
}

/// `y[m, rows] = x[m, cols] · wᵀ`.
pub(super) struct Product<'a> {
    pub(super) w: &'a Matrix<'a>,
    /// `[rows, cols]`.
    pub(super) shape: [usize; 2],
    pub(super) x: &'a [f32],
    pub(super) y: &'a mut [f32],
}

impl Compute for Product<'_> {
    fn on(self, isa: impl Isa) {
        let Self { w, shape: [rows, cols], x, y } = self;
        product(isa, w, [rows, cols], x, y);
    }
}

fn product<I: Isa>(isa: I, w: &Matrix<'_>, [rows, cols]: [usize; 2], x: &[f32], y: &mut [f32]) {
    let m = x.len() / cols;
    let few = if m % TILE <= few(w, m) { m % TILE } else { 0 };
    let ((x, x_few), (y, y_few)) = (x.split_at((m - few) * cols), y.split_at_mut((m - few) * rows));
    if !x.is_empty() {
        gemm(isa, w, rows, &Activations::new(I::SIMD, x, cols), y);
    }
    if few > 0 {
        let mut x = Activations::new(I::SIMD, x_few, cols);
        isa.arrange(w, &mut x);
        gemv(isa, w, rows, &x, y_few);
    }
}

/// Multiplies each row of weights by each of a few rows of activations.
fn gemv<I: Isa>(isa: I, w: &Matrix<'_>, rows: usize, x: &Activations, y: &mut [f32]) {
    let (m, task) = (x.rows(), rows.div_ceil(8 * rayon::current_num_threads()).max(16));
    let run = |(t, out): (usize, &mut [f32])| isa.gemv(w, x, t * task, out);
    if m == 1 {
        return y.par_chunks_mut(task).enumerate().for_each(run);
    }
    let mut by_row = vec![0.0; y.len()];
    by_row.par_chunks_mut(task * m).enumerate().for_each(run);
    for (j, y) in y.chunks_exact_mut(rows).enumerate() {
        y.iter_mut().zip(by_row[j..].iter().step_by(m)).for_each(|(y, by_row)| *y = *by_row);
    }
}

/// Multiplies panels of rows of weights, one block of columns at a time, by all rows of activations.
fn gemm<I: Isa>(isa: I, w: &Matrix<'_>, rows: usize, x: &Activations, y: &mut [f32]) {
    let tiles = panel::tiles(x);
    panel::by_panels(rows, x.rows(), y, Scratch::new, |scratch, rows, products| {
        let Scratch { levels, words, units } = scratch;
        let panel: Vec<_> = levels.iter_mut().zip(rows).map(|(levels, r)| w.row(I::SIMD, r, levels)).collect();
        for (b, tiles) in tiles.chunks_exact(products.len()).enumerate() {
            for ((words, unit), row) in words.iter_mut().zip(&mut *units).zip(&panel) {
                *unit = row.unit(b);
                let (codes, bytes) = row.codes();
                later_block(codes, b, bytes);
                isa.unpack(row, b, words);
            }
            isa.add_products(words, units, tiles, products);
        }
    });
}

/// The buffers of a thread that multiplies a panel.
struct Scratch {
    levels: Box<[Companded; PANEL]>,
    words: Box<Words>,
    units: [f32; PANEL],
}

impl Scratch {
    fn new() -> Self {
        Self { levels: Box::new([Companded::EMPTY; PANEL]), words: Box::new([[0; BLOCK]; PANEL]), units: [0.0; PANEL] }
    }
}
