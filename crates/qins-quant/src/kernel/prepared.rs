//! The right matrix of many products in `f32`, arranged once for all of them.

use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::float::{
    many,
    tiles::{BLOCK, Columns, TILE, Tile},
};
use super::{Accumulate, Simd, View, gemm::product_on};

/// The right matrix of products, also by parts of it: rows from a multiple of [`ROWS`](Self::ROWS) on, columns from a multiple of
/// [`COLUMNS`](Self::COLUMNS) on. A product has the bits of that of a [`View`], unless it is so small that another routine computes the latter.
#[derive(Clone, PartialEq)]
pub(crate) struct Prepared {
    /// Arranged for this instruction set.
    simd: Simd,
    shape: [usize; 2],
    numbers: Numbers,
}

#[derive(Clone, PartialEq)]
enum Numbers {
    /// Row-major.
    Rows(Vec<f32>),
    /// Tiles of a block of rows are side by side.
    #[cfg(target_arch = "x86_64")]
    Tiles(Vec<Tile>),
}

impl Prepared {
    /// What the first row of a product's rows is a multiple of.
    pub(crate) const ROWS: usize = 256;

    /// What the first column of a product's columns is a multiple of.
    pub(crate) const COLUMNS: usize = 16;

    /// A matrix `[rows, cols]`; `copy` writes the numbers of a row from a column on over zeros, as many as there are.
    pub(crate) fn new(shape: [usize; 2], copy: impl Fn(usize, usize, &mut [f32]) + Sync) -> Self {
        Self::on(Simd::get(), shape, copy)
    }

    fn on(simd: Simd, shape: [usize; 2], copy: impl Fn(usize, usize, &mut [f32]) + Sync) -> Self {
        let [rows, cols] = shape;
        #[cfg(target_arch = "x86_64")]
        if simd.fuses_floats() {
            let per_block = cols.div_ceil(TILE);
            let tile = |i: usize| {
                let (row, column) = (i / per_block * BLOCK, i % per_block * TILE);
                Tile::of([row, rows.min(row + BLOCK)], [column, TILE.min(cols - column)], &copy)
            };
            let tiles = (0..rows.div_ceil(BLOCK) * per_block).into_par_iter().map(tile).collect();
            return Self { simd, shape, numbers: Numbers::Tiles(tiles) };
        }
        let mut numbers = vec![0.0; rows * cols];
        numbers.par_chunks_mut(cols.max(1)).enumerate().for_each(|(row, numbers)| copy(row, 0, numbers));
        Self { simd, shape, numbers: Numbers::Rows(numbers) }
    }

    /// The matrix with rows and columns exchanged.
    pub(crate) fn transposed(&self) -> Self {
        let [rows, cols] = self.shape;
        Self::on(self.simd, [cols, rows], |column, first, out| {
            out.iter_mut().zip(first..).for_each(|(out, row)| *out = self.at(row, column));
        })
    }

    /// The number in a row and a column.
    #[inline]
    pub(crate) fn at(&self, row: usize, column: usize) -> f32 {
        let cols = self.shape[1];
        assert!(column < cols, "a column of {cols}");
        match &self.numbers {
            Numbers::Rows(numbers) => numbers[row * cols + column],
            #[cfg(target_arch = "x86_64")]
            Numbers::Tiles(tiles) => {
                tiles[row / BLOCK * cols.div_ceil(TILE) + column / TILE].row(row % BLOCK)[column % TILE]
            }
        }
    }

    /// The numbers of a row from column `first` on, as many as `out` has.
    pub(crate) fn copy_row(&self, row: usize, first: usize, out: &mut [f32]) {
        out.iter_mut().zip(first..).for_each(|(out, column)| *out = self.at(row, column));
    }

    /// `out = left · right`, or `+=`, for the right matrix of these rows and columns, on one thread; `out` is row-major, its rows `stride`
    /// elements apart.
    ///
    /// # Panics
    /// When shapes do not match, rows or columns start elsewhere than they may, or `out` is too short.
    pub(crate) fn product(
        &self,
        out: &mut [f32],
        stride: usize,
        left: View<'_, f32>,
        rows: [usize; 2],
        columns: [usize; 2],
        accumulate: Accumulate,
    ) {
        let starts = rows[0].is_multiple_of(Self::ROWS) && columns[0].is_multiple_of(Self::COLUMNS);
        let fits = rows[0] <= rows[1] && rows[1] <= self.shape[0] && columns[0] <= columns[1];
        assert!(starts && fits && columns[1] <= self.shape[1], "a part of {:?}: {rows:?}, {columns:?}", self.shape);
        match &self.numbers {
            Numbers::Rows(numbers) => {
                let right = View::new(numbers, self.shape, [self.shape[1], 1]).part(rows, columns);
                product_on(self.simd, out, stride, left, right, accumulate);
            }
            #[cfg(target_arch = "x86_64")]
            Numbers::Tiles(tiles) => {
                let per_block = self.shape[1].div_ceil(TILE);
                let first = rows[0] / BLOCK * per_block + columns[0] / TILE;
                let mut part = Part { tiles: &tiles[first.min(tiles.len())..], per_block };
                let [k, n] = [rows[1] - rows[0], columns[1] - columns[0]];
                super::gemm::prepare(out, stride, left, [k, n], accumulate);
                many::add_product(self.simd, out, stride, left, n, &mut part);
            }
        }
    }
}

/// The tiles of a part, from its first on.
#[cfg(target_arch = "x86_64")]
struct Part<'a> {
    tiles: &'a [Tile],
    per_block: usize,
}

#[cfg(target_arch = "x86_64")]
impl Columns for Part<'_> {
    fn tiles(&mut self, [first, _]: [usize; 2], column: usize, count: usize) -> &[Tile] {
        &self.tiles[first / BLOCK * self.per_block + column / TILE..][..count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::gemm::tests::numbers;

    #[test]
    fn products_by_parts_have_the_bits_of_those_by_views() {
        let shape @ [rows, cols] = [530, 150];
        let all = numbers(rows * cols, 1);
        let view = View::new(&all, shape, [cols, 1]);
        let copy =
            |row: usize, first: usize, out: &mut [f32]| out.copy_from_slice(&all[row * cols + first..][..out.len()]);
        for simd in Simd::ALL.into_iter().filter(|simd| simd.is_available()) {
            let prepared = Prepared::on(simd, shape, copy);
            let mut row = vec![0.0; 40];
            prepared.copy_row(300, 9, &mut row);
            assert_eq!(row, all[300 * cols + 9..][..40]);
            assert_eq!(prepared.at(529, 149), all[rows * cols - 1]);
            let back = prepared.transposed();
            assert_eq!((back.at(149, 529), back.at(3, 500)), (prepared.at(529, 149), prepared.at(500, 3)));
            for (part, columns) in
                [([0, 530], [0, 150]), ([256, 530], [16, 150]), ([0, 256], [32, 64]), ([512, 512], [0, 9])]
            {
                let [m, k, n] = [70, part[1] - part[0], columns[1] - columns[0]];
                let left = numbers(m * k, 2);
                let left = View::new(&left, [m, k], [k, 1]);
                for accumulate in [Accumulate::No, Accumulate::Yes] {
                    let before = numbers(m * (n + 3), 3);
                    let [mut expected, mut found, mut other] = [(); 3].map(|()| before.clone());
                    product_on(simd, &mut expected, n + 3, left, view.part(part, columns), accumulate);
                    prepared.product(&mut found, n + 3, left, part, columns, accumulate);
                    assert_eq!(found, expected);
                    // Control: other columns.
                    if columns[1] + 16 <= cols && k > 0 {
                        let columns = columns.map(|column| column + 16);
                        prepared.product(&mut other, n + 3, left, part, columns, accumulate);
                        assert_ne!(other, expected);
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "a part of [300, 20]: [8, 300], [0, 20]")]
    fn parts_start_where_they_may() {
        let prepared = Prepared::new([300, 20], |_, _, out| out.fill(1.0));
        prepared.product(
            &mut [0.0; 20],
            20,
            View::new(&[1.0; 292], [1, 292], [292, 1]),
            [8, 300],
            [0, 20],
            Accumulate::No,
        );
    }
}
