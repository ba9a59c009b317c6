//! Products with few vectors: every weight is read once, and decoded once for all of them.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::{
    input::load,
    matrix::{Form, Parts, eight, levels},
};

/// Vectors at most.
pub(super) const VECTORS: usize = 4;

/// Units of a cube. They share the columns of its rows.
pub(super) const UNITS: usize = 64;

/// Rows of a cube: what a unit reads of a vector it multiplies with all of them.
pub(super) const ROWS: usize = 4;

/// `y[m, rows] = x[m, cols] · wᵀ`, four rows a cube; m ≤ `room`. Sums have one order, whatever the device.
#[cube(launch_unchecked)]
pub(super) fn matvec<F: Float, N: Size>(
    x: &[Vector<F, N>],
    w: Parts,
    y: &mut [F],
    rows: u32,
    cols: u32,
    m: u32,
    #[comptime] room: usize,
    #[comptime] form: Form,
    #[define(F)] _dtype: ElemType,
) {
    let table = levels(&w, form);
    let first = CUBE_POS as u32 * comptime!(ROWS as u32);
    let sums = comptime!(ROWS * room);
    let mut sum = Array::<f32>::new(sums);
    #[unroll]
    for i in 0..sums {
        sum[i] = 0.0;
    }
    let mut part = UNIT_POS;
    while part < cols.div_ceil(32) * 4 {
        let (group, quarter) = (part / 4, part % 4);
        let at = 32 * group + 4 * quarter;
        #[unroll]
        for r in 0..ROWS {
            // A row beyond the last is not written; what is read in its place matters to nothing.
            let row = (first + comptime!(r as u32)).min(rows - 1);
            let weights = eight(&w, &table, row, group, quarter, cols, form);
            #[unroll]
            for i in 0..room {
                // Nor is what comes of a vector beyond the last.
                let vector = comptime!(i as u32).min(m - 1);
                let low = load(x, vector, at, cols);
                let high = load(x, vector, at + 16, cols);
                let dot = weights.low.dot(low) + weights.high.dot(high);
                sum[comptime!(r * room + i)] += weights.scale * dot;
            }
        }
        part += comptime!(UNITS as u32);
    }

    let mut shared = Shared::<[f32]>::new_slice(comptime!(sums * UNITS));
    let unit = UNIT_POS as usize;
    #[unroll]
    for i in 0..sums {
        shared[comptime!(i * UNITS) + unit] = sum[i];
    }
    let halvings = comptime!(UNITS.ilog2() as usize);
    #[unroll]
    for step in 0..halvings {
        sync_cube();
        let half = comptime!(UNITS >> (step + 1));
        if unit < half {
            #[unroll]
            for i in 0..sums {
                let at = comptime!(i * UNITS) + unit;
                shared[at] += shared[at + half];
            }
        }
    }
    if unit == 0 {
        #[unroll]
        for r in 0..ROWS {
            let row = first + comptime!(r as u32);
            if row < rows {
                #[unroll]
                for i in 0..room {
                    if comptime!(i as u32) < m {
                        y[(comptime!(i as u32) * rows + row) as usize] =
                            F::cast_from(shared[comptime!((r * room + i) * UNITS)]);
                    }
                }
            }
        }
    }
}
