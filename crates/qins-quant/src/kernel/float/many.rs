//! Plain weights times many rows of activations: panels of decoded weights times tiles of activations, which are interleaved once.
//!
//! An output is the sum, over blocks of 256 columns, of a chain of fused multiplications and additions: it has the same bits with any
//! number of threads and of other rows, and on both instruction sets.

#![allow(unsafe_code)]

use core::{arch::x86_64::*, cell::RefCell};

use rayon::prelude::*;

use super::tiles::{BLOCK, Columns, TILE, Tile};
use crate::kernel::{Rows, Simd, View, simd::per_isa};

/// Rows of weights that are decoded together: a multiple of those that are multiplied together on either instruction set.
const PANEL: usize = 48;

/// Rows of weights that are multiplied together with AVX-512, and twice as many as with AVX2.
const GROUP: usize = 12;

/// A block of columns of a panel.
type Weights = [[f32; BLOCK]; PANEL];

/// The products of a panel with a tile.
type Products = [[f32; TILE]; PANEL];

/// `y[m, rows] = x[m, cols] · wᵀ`.
pub(super) fn product(simd: Simd, w: Rows<'_>, [rows, cols]: [usize; 2], x: &[f32], y: &mut [f32]) {
    let (m, blocks) = (x.len() / cols, cols.div_ceil(BLOCK));
    let per_block = m.div_ceil(TILE);
    let tiles: Vec<Tile> = (0..blocks * per_block)
        .into_par_iter()
        .map(|i| Tile::transposed(x, cols, i % per_block * TILE, i / per_block * BLOCK))
        .collect();
    // The outputs of a panel are contiguous, so that threads write to different cache lines.
    let mut panels = vec![[0.0; PANEL]; rows.div_ceil(PANEL) * m];
    let scratch = || (vec![[[0.0; BLOCK]; PANEL]; blocks], vec![[[0.0; TILE]; PANEL]; per_block]);
    panels.par_chunks_mut(m).enumerate().for_each_init(scratch, |(weights, products), (p, out)| {
        decode(simd, w, p * PANEL, rows.min((p + 1) * PANEL) - p * PANEL, cols, weights);
        products.fill([[0.0; TILE]; PANEL]);
        for (b, (weights, tiles)) in weights.iter().zip(tiles.chunks_exact(per_block)).enumerate() {
            add_products(simd, weights, BLOCK.min(cols - b * BLOCK), tiles, products);
        }
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

/// Tiles that are multiplied together with AVX-512.
pub(super) const TILES: usize = 2;

thread_local! {
    /// The panels of [`add_product`].
    static PANELS: RefCell<Vec<Weights>> = const { RefCell::new(Vec::new()) };
}

/// `out[m, n] += left[m, k] · right[k, n]` on one thread, rows of `out` being `stride` apart. The product of a row and a column is the
/// sum, over blocks of 256, of chains.
pub(in crate::kernel) fn add_product(
    simd: Simd,
    out: &mut [f32],
    stride: usize,
    left: View<'_, f32>,
    n: usize,
    right: &mut impl Columns,
) {
    let [m, k] = left.shape();
    if m == 0 {
        return;
    }
    let blocks = || (0..k).step_by(BLOCK).map(|first| (first, BLOCK.min(k - first)));
    let per_block = m.div_ceil(PANEL);
    PANELS.with_borrow_mut(|panels| {
        panels.resize(panels.len().max(blocks().len() * per_block), [[0.0; BLOCK]; PANEL]);
        for ((first, width), panels) in blocks().zip(panels.chunks_exact_mut(per_block)) {
            for row in 0..m {
                left.copy_row(row, first, &mut panels[row / PANEL][row % PANEL][..width]);
            }
        }
        let mut products = vec![[[[0.0; TILE]; PANEL]; TILES]; per_block];
        for column in (0..n).step_by(TILES * TILE) {
            let count = (n - column).div_ceil(TILE).min(TILES);
            products.fill([[[0.0; TILE]; PANEL]; TILES]);
            for ((first, width), panels) in blocks().zip(panels.chunks_exact(per_block)) {
                let tiles = right.tiles([first, width], column, count);
                for ((panel, products), row) in panels.iter().zip(&mut products).zip((0..m).step_by(PANEL)) {
                    // Groups of rows are whole on either instruction set.
                    let w = &panel[..PANEL.min(m - row).next_multiple_of(GROUP)];
                    add_products(simd, w, width, tiles, &mut products[..count]);
                }
            }
            for (row, out) in out.chunks_mut(stride).enumerate().take(m) {
                let lanes = products[row / PANEL].iter().flat_map(|products| &products[row % PANEL]);
                out[column..n].iter_mut().zip(lanes).for_each(|(out, product)| *out += product);
            }
        }
    });
}

/// Adds the products of the first `columns` of a block, for whole groups of rows. `simd` must [fuse](Simd::fuses_floats).
fn add_products(simd: Simd, w: &[[f32; BLOCK]], columns: usize, x: &[Tile], y: &mut [Products]) {
    // SAFETY: `simd` is from `Simd::get` or `linear_on`, which accept available instruction sets only.
    unsafe {
        match simd {
            Simd::Avx512 => avx512(w, columns, x, y),
            Simd::Avx2 | Simd::AvxVnni => avx2(w, columns, x, y),
            Simd::Portable | Simd::Neon => unreachable!("they do not fuse"),
        }
    }
}

per_isa! {
    /// Decodes `n` rows, of which `first` is the first, into a panel.
    fn decode(w: Rows<'_>, first: usize, n: usize, cols: usize, panel: &mut [Weights]) = decode_inlined
}

#[inline(always)]
fn decode_inlined(w: Rows<'_>, first: usize, n: usize, cols: usize, panel: &mut [Weights]) {
    let mut row = vec![0.0; cols];
    for i in 0..n {
        w.decode_row(first + i, &mut row);
        for (block, row) in panel.iter_mut().zip(row.chunks(BLOCK)) {
            block[i][..row.len()].copy_from_slice(row);
        }
    }
}

/// Adds the products of the first `columns` of a block.
#[target_feature(enable = "avx512f")]
fn avx512(w: &[[f32; BLOCK]], columns: usize, x: &[Tile], y: &mut [Products]) {
    let (pairs, last) = x.as_chunks::<2>();
    let (y_pairs, y_last) = y.as_chunks_mut::<2>();
    for (x, y) in pairs.iter().zip(y_pairs) {
        tiles_avx512(w, columns, x, y);
    }
    for (x, y) in last.iter().zip(y_last) {
        tiles_avx512(w, columns, core::array::from_ref(x), core::array::from_mut(y));
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn tiles_avx512<const TILES: usize>(w: &[[f32; BLOCK]], columns: usize, x: &[Tile; TILES], y: &mut [Products; TILES]) {
    const ROWS: usize = GROUP;
    for (g, w) in w.as_chunks::<ROWS>().0.iter().enumerate() {
        let mut sums = [[_mm512_setzero_ps(); ROWS]; TILES];
        for k in 0..columns.min(BLOCK) {
            let mut lanes = [_mm512_setzero_ps(); TILES];
            for t in 0..TILES {
                // SAFETY: a row of a tile is sixteen numbers, and a tile is aligned.
                lanes[t] = unsafe { _mm512_load_ps(x[t].0[k].as_ptr()) };
            }
            for r in 0..ROWS {
                let w = _mm512_set1_ps(w[r][k]);
                for t in 0..TILES {
                    sums[t][r] = _mm512_fmadd_ps(w, lanes[t], sums[t][r]);
                }
            }
        }
        for t in 0..TILES {
            for r in 0..ROWS {
                let y = y[t][ROWS * g + r].as_mut_ptr();
                // SAFETY: the products of a row are sixteen numbers.
                unsafe { _mm512_storeu_ps(y, _mm512_add_ps(_mm512_loadu_ps(y), sums[t][r])) };
            }
        }
    }
}

/// Adds the products of the first `columns` of a block.
#[target_feature(enable = "avx2,fma")]
fn avx2(w: &[[f32; BLOCK]], columns: usize, x: &[Tile], y: &mut [Products]) {
    const ROWS: usize = 6;
    for (x, y) in x.iter().zip(y) {
        for (g, w) in w.as_chunks::<ROWS>().0.iter().enumerate() {
            let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
            for k in 0..columns.min(BLOCK) {
                let x = x.0[k].as_ptr();
                // SAFETY: a row of a tile is sixteen numbers, and a tile is aligned.
                let x = unsafe { [_mm256_load_ps(x), _mm256_load_ps(x.add(8))] };
                for r in 0..ROWS {
                    let w = _mm256_set1_ps(w[r][k]);
                    sums[r][0] = _mm256_fmadd_ps(w, x[0], sums[r][0]);
                    sums[r][1] = _mm256_fmadd_ps(w, x[1], sums[r][1]);
                }
            }
            for r in 0..ROWS {
                let y = y[ROWS * g + r].as_mut_ptr();
                for (half, sums) in sums[r].iter().enumerate() {
                    // SAFETY: the products of a row are sixteen numbers.
                    unsafe {
                        let y = y.add(8 * half);
                        _mm256_storeu_ps(y, _mm256_add_ps(_mm256_loadu_ps(y), *sums));
                    }
                }
            }
        }
    }
}
