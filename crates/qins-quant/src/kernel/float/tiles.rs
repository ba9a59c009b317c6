//! The right matrix of a product, sixteen of its columns at a time.

use std::cell::RefCell;

use super::many::TILES;
use crate::kernel::{Prepared, View};

/// Rows whose products are one chain. So many of a panel of the left matrix and of two tiles fit the first level of cache.
pub(in crate::kernel) const BLOCK: usize = Prepared::ROWS;

/// Columns of a tile.
pub(in crate::kernel) const TILE: usize = Prepared::COLUMNS;

/// A block of rows of sixteen columns. What it has for rows and columns that there are not is not read, or not used.
#[derive(Clone, PartialEq)]
#[repr(C, align(64))]
pub(in crate::kernel) struct Tile(pub(super) [[f32; TILE]; BLOCK]);

impl Tile {
    const ZERO: Self = Self([[0.0; TILE]; BLOCK]);

    /// Of a matrix of which `copy` gives the numbers of a row from a column on. `rows` and `columns` are the range of its rows, and the first
    /// and the number of its columns.
    #[inline]
    pub(in crate::kernel) fn of(
        rows: [usize; 2],
        [column, count]: [usize; 2],
        copy: impl Fn(usize, usize, &mut [f32]),
    ) -> Self {
        let mut tile = Self::ZERO;
        for (lanes, row) in tile.0.iter_mut().zip(rows[0]..rows[1]) {
            copy(row, column, &mut lanes[..count]);
        }
        tile
    }

    /// Of xᵀ, for `x[n, cols]`: rows of x are its columns.
    pub(super) fn transposed(x: &[f32], cols: usize, row: usize, column: usize) -> Self {
        let mut tile = Self::ZERO;
        for (lane, x) in x[row * cols..].chunks_exact(cols).take(TILE).enumerate() {
            tile.0.iter_mut().zip(&x[column..]).for_each(|(lanes, x)| lanes[lane] = *x);
        }
        tile
    }

    /// The numbers of a row.
    pub(in crate::kernel) fn row(&self, row: usize) -> &[f32; TILE] {
        &self.0[row]
    }

    /// Rows `first` to `first + width` of columns from `column` on. Of other columns and rows it keeps what it had.
    fn fill(&mut self, right: View<'_, f32>, first: usize, width: usize, column: usize) {
        let n = TILE.min(right.shape()[1] - column);
        if right.is_by_columns() {
            let (by_columns, mut lane) = (right.transposed(), [0.0; BLOCK]);
            for i in 0..n {
                by_columns.copy_row(column + i, first, &mut lane[..width]);
                self.0.iter_mut().zip(&lane[..width]).for_each(|(lanes, x)| lanes[i] = *x);
            }
        } else if n == TILE {
            // A constant length: a call for each row takes longer than the copy.
            (0..width).for_each(|k| right.copy_row(first + k, column, &mut self.0[k]));
        } else {
            (0..width).for_each(|k| right.copy_row(first + k, column, &mut self.0[k][..n]));
        }
    }
}

/// A right matrix in tiles.
pub(in crate::kernel) trait Columns {
    /// `count` tiles of the columns from `column` on, at most [`TILES`], for the rows of a block: its first, and their number.
    fn tiles(&mut self, block: [usize; 2], column: usize, count: usize) -> &[Tile];
}

/// One that is arranged as it is multiplied.
pub(in crate::kernel) struct Arranging<'a> {
    right: View<'a, f32>,
    tiles: &'a mut [Tile; TILES],
}

impl Arranging<'_> {
    /// Calls `multiply` with this matrix.
    pub(in crate::kernel) fn with(right: View<'_, f32>, multiply: impl FnOnce(&mut Arranging<'_>)) {
        thread_local! {
            static SCRATCH: RefCell<Box<[Tile; TILES]>> = RefCell::new(Box::new([const { Tile::ZERO }; TILES]));
        }
        SCRATCH.with_borrow_mut(|tiles| multiply(&mut Arranging { right, tiles }));
    }
}

impl Columns for Arranging<'_> {
    fn tiles(&mut self, [first, width]: [usize; 2], column: usize, count: usize) -> &[Tile] {
        let tiles = &mut self.tiles[..count];
        for (t, tile) in tiles.iter_mut().enumerate() {
            tile.fill(self.right, first, width, column + t * TILE);
        }
        tiles
    }
}
