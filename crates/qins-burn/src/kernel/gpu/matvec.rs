//! Products with few vectors (gemv): every weight is read and decoded once for all of them.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::{
    input::load,
    matrix::{Form, Parts, eight, levels},
};

/// Maximum number of vectors.
pub(super) const VECTORS: usize = 4;

/// Units of a cube, among which the columns of its rows are divided.
pub(super) const UNITS: usize = 64;

/// Rows of a cube: a unit multiplies each vector element that it reads with all of them.
pub(super) const ROWS: usize = 4;

/// `y[m, rows] = x[m, cols] · wᵀ`, four rows per cube; m ≤ `room`. The order of summation is the same on every
/// device, except within four products, where the driver chooses it.
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
            // A row beyond the last is not written, so what is read in its place does not matter.
            let row = (first + comptime!(r as u32)).min(rows - 1);
            let weights = eight(&w, &table, row, group, quarter, cols, form);
            #[unroll]
            for i in 0..room {
                // The same applies to vectors beyond the last.
                let vector = comptime!(i as u32).min(m - 1);
                let low = load(x, vector, at, cols);
                let high = load(x, vector, at + 16, cols);
                let dot = weights.low.dot(low) + weights.high.dot(high);
                sum[comptime!(r * room + i)] += weights.scale * dot;
            }
        }
        part += comptime!(UNITS as u32);
    }

    // The sums of all units, eight at a time: two barriers, where a binary tree would take six.
    let unit = UNIT_POS as usize;
    let mut shared = Shared::<[f32]>::new_slice(comptime!(sums * UNITS));
    let mut eighths = Shared::<[f32]>::new_slice(comptime!(sums * UNITS / 8));
    #[unroll]
    for i in 0..sums {
        shared[comptime!(i * UNITS) + unit] = sum[i];
    }
    sync_cube();
    let mut slot = unit;
    while slot < comptime!(sums * UNITS / 8) {
        let mut eight = 0.0f32;
        #[unroll]
        for i in 0..8usize {
            eight += shared[8 * slot + i];
        }
        eighths[slot] = eight;
        slot += UNITS;
    }
    sync_cube();
    if unit < sums {
        let mut total = 0.0f32;
        #[unroll]
        for i in 0..comptime!(UNITS / 8) {
            total += eighths[comptime!(UNITS / 8) * unit + i];
        }
        let (row, vector) = (first + (unit / room) as u32, (unit % room) as u32);
        if row < rows && vector < m {
            y[(vector * rows + row) as usize] = F::cast_from(total);
        }
    }
}
