//! Products with many vectors (gemm): tiles of weights are decoded into shared memory.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::{
    input::load,
    matrix::{Form, Four, Parts, eight, levels},
};

/// Rows and vectors of a cube's tile of products.
pub(super) const TILE: usize = 64;

/// Units of a cube: a unit decodes eight of the 32 columns of a row, and accumulates 4 × 4 products.
pub(super) const UNITS: usize = 256;

/// Products of a unit, in either dimension.
const SIDE: usize = 4;

/// Vectors of four from a row of a tile to the next: eight for its columns, and one of padding to avoid bank conflicts.
const STRIDE: usize = 9;

/// `y[m, rows] = x[m, cols] · wᵀ`, a tile of 64 × 64 per cube, 32 columns at a time.
#[cube(launch_unchecked)]
pub(super) fn matmul<F: Float, N: Size>(
    x: &[Vector<F, N>],
    w: Parts,
    y: &mut [F],
    m: u32,
    rows: u32,
    cols: u32,
    #[comptime] form: Form,
    #[define(F)] _dtype: ElemType,
) {
    let table = levels(&w, form);
    let (first_row, first_vector) = (CUBE_POS_X * comptime!(TILE as u32), CUBE_POS_Y * comptime!(TILE as u32));
    let mut weights = Shared::<[Four]>::new_slice(comptime!(TILE * STRIDE));
    let mut vectors = Shared::<[Four]>::new_slice(comptime!(TILE * STRIDE));

    // The part of either tile that the unit fills.
    let (mine, quarter) = (UNIT_POS / 4, UNIT_POS % 4);
    let row = (first_row + mine).min(rows - 1);
    let vector = (first_vector + mine).min(m - 1);
    let slot = mine as usize * STRIDE + quarter as usize;
    // Its accumulators.
    let (across, down) = (UNIT_POS as usize % 16, UNIT_POS as usize / 16);
    let mut sum = Array::<f32>::new(comptime!(SIDE * SIDE));
    #[unroll]
    for i in 0..comptime!(SIDE * SIDE) {
        sum[i] = 0.0;
    }

    for group in 0..cols.div_ceil(32) {
        let at = 32 * group + 4 * quarter;
        let eight = eight(&w, &table, row, group, quarter, cols, form);
        weights[slot] = eight.low * Four::new(eight.scale);
        weights[slot + 4] = eight.high * Four::new(eight.scale);
        vectors[slot] = load(x, vector, at, cols);
        vectors[slot + 4] = load(x, vector, at + 16, cols);
        sync_cube();
        #[unroll]
        for k in 0..8usize {
            let mut left = Array::<Four>::new(SIDE);
            #[unroll]
            for i in 0..SIDE {
                left[i] = vectors[(down + comptime!(16 * i)) * STRIDE + k];
            }
            #[unroll]
            for j in 0..SIDE {
                let right = weights[(across + comptime!(16 * j)) * STRIDE + k];
                #[unroll]
                for i in 0..SIDE {
                    sum[comptime!(SIDE * i + j)] += left[i].dot(right);
                }
            }
        }
        sync_cube();
    }

    #[unroll]
    for i in 0..SIDE {
        let vector = first_vector + (down + comptime!(16 * i)) as u32;
        if vector < m {
            #[unroll]
            for j in 0..SIDE {
                let row = first_row + (across + comptime!(16 * j)) as u32;
                if row < rows {
                    y[(vector * rows + row) as usize] = F::cast_from(sum[comptime!(SIDE * i + j)]);
                }
            }
        }
    }
}
