//! Decodes rows of a matrix, for embedding lookups.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::matrix::{Form, Parts, eight, levels};

/// Units of a cube.
pub(super) const UNITS: usize = 64;

/// `y[n, cols]`: row `ids[i]` of the matrix, one cube per row.
#[cube(launch_unchecked)]
pub(super) fn rows<I: Int>(
    ids: &[I],
    w: Parts,
    y: &mut [f32],
    n: u32,
    cols: u32,
    #[comptime] form: Form,
    #[define(I)] _dtype: ElemType,
) {
    let i = CUBE_POS as u32;
    if i < n {
        let table = levels(&w, form);
        let row = u32::cast_from(ids[i as usize]);
        let mut part = UNIT_POS;
        while part < cols.div_ceil(32) * 4 {
            let (group, quarter) = (part / 4, part % 4);
            let weights = eight(&w, &table, row, group, quarter, cols, form);
            let at = 32 * group + 4 * quarter;
            #[unroll]
            for j in 0..4usize {
                let low = at + comptime!(j as u32);
                if low < cols {
                    y[(i * cols + low) as usize] = weights.low.extract(j) * weights.scale;
                }
                if low + 16 < cols {
                    y[(i * cols + low + 16) as usize] = weights.high.extract(j) * weights.scale;
                }
            }
            part += comptime!(UNITS as u32);
        }
    }
}
