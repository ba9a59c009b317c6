//! What the product with many rows of activations works on: rows of weights, and activations interleaved.

use std::ops::Range;

use rayon::prelude::*;

use super::activations::{Activations, BLOCK};

/// Rows of weights that are unpacked together.
pub(super) const PANEL: usize = 32;

/// Rows of activations that are multiplied together.
pub(super) const TILE: usize = 16;

/// One block of columns of each row of a panel.
pub(super) type Words = [[i16; BLOCK]; PANEL];

/// The products of a panel with a tile.
pub(super) type Products = [[f32; TILE]; PANEL];

/// One block of columns of some rows of activations. Interleaving them once, and not the weights, is done once for all panels.
#[derive(Clone)]
#[repr(C, align(64))]
pub(super) struct Tile {
    /// For each pair of columns, that pair of every row; zeros for rows that there are not.
    pub(super) pairs: [[[i16; 2]; TILE]; BLOCK / 2],
    pub(super) steps: [f32; TILE],
}

/// `y[m, rows]`, computed a panel of rows of weights at a time: `multiply` adds the products of some rows with all tiles of activations to zeros.
pub(super) fn by_panels<S>(
    rows: usize,
    m: usize,
    y: &mut [f32],
    scratch: impl Fn() -> S + Sync + Send,
    multiply: impl Fn(&mut S, Range<usize>, &mut [Products]) + Sync + Send,
) {
    // The outputs of a panel are contiguous, so that threads write to different cache lines.
    let mut panels = vec![[0.0; PANEL]; rows.div_ceil(PANEL) * m];
    let buffers = || (scratch(), vec![[[0.0; TILE]; PANEL]; m.div_ceil(TILE)]);
    panels.par_chunks_mut(m).enumerate().for_each_init(buffers, |(scratch, products), (p, out)| {
        products.fill([[0.0; TILE]; PANEL]);
        multiply(scratch, p * PANEL..rows.min((p + 1) * PANEL), products);
        for (j, out) in out.iter_mut().enumerate() {
            out.iter_mut().zip(&products[j / TILE]).for_each(|(y, lanes)| *y = lanes[j % TILE]);
        }
    });
    y.par_chunks_mut(rows).enumerate().for_each(|(j, y)| {
        for (y, panel) in y.chunks_mut(PANEL).zip(panels[j..].iter().step_by(m)) {
            y.copy_from_slice(&panel[..y.len()]);
        }
    });
}

/// The tiles of each block of columns, one block after the other.
pub(super) fn tiles(x: &Activations) -> Vec<Tile> {
    let per_block = x.rows().div_ceil(TILE);
    let tile = |i: usize| {
        let (b, first) = (i / per_block, i % per_block * TILE);
        let mut tile = Tile { pairs: [[[0; 2]; TILE]; BLOCK / 2], steps: [0.0; TILE] };
        for (lane, j) in (first..x.rows().min(first + TILE)).enumerate() {
            let row = x.row(j);
            tile.steps[lane] = row.steps[b];
            let pairs = row.values[b].0.as_chunks::<2>().0;
            tile.pairs.iter_mut().zip(pairs).for_each(|(to, pair)| to[lane] = *pair);
        }
        tile
    };
    (0..x.blocks() * per_block).into_par_iter().map(tile).collect()
}
