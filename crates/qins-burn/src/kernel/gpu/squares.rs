//! Sums of squares of queries.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// Units of a cube.
pub(super) const UNITS: usize = 64;

/// Adds the squares of queries `[heads, group·n, dim]`, without the first `skip` tokens, to `sums[heads, dim]`, token by token; one unit for each sum.
#[cube(launch_unchecked)]
pub(super) fn add(queries: &[f32], sums: &mut [f32], heads: u32, group: u32, n: u32, dim: u32, skip: u32) {
    let at = ABSOLUTE_POS as u32;
    if at < heads * dim {
        let (head, c) = (at / dim, at % dim);
        let mut sum = sums[at as usize];
        for token in skip..n {
            for which in 0..group {
                let q = queries[(((head * group + which) * n + token) * dim + c) as usize];
                sum += q * q;
            }
        }
        sums[at as usize] = sum;
    }
}
