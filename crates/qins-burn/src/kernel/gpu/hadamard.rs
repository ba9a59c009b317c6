//! The Hadamard transform over vectors.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::kv::within;

/// Units of a cube.
pub(super) const UNITS: u32 = 64;

/// Transforms `x[n, dim]` as [`qins_quant::kv::Heads`] does, with its bits, in runs of `run` elements; `norm` is 1/√run. An element of a larger
/// magnitude than that with the bits `most` is NaN. One cube per vector.
#[cube(launch_unchecked)]
pub(super) fn hadamard(
    x: &[f32],
    y: &mut [f32],
    n: u32,
    most: u32,
    norm: f32,
    #[comptime] dim: u32,
    #[comptime] run: u32,
) {
    let row = CUBE_POS as u32;
    if row < n {
        let mut vector = Shared::<[f32]>::new_slice(dim as usize);
        let mut i = UNIT_POS;
        while i < dim {
            vector[i as usize] = within(x[(row * dim + i) as usize], most);
            i += UNITS;
        }
        sync_cube();
        let mut half = 1u32;
        while half < run {
            let mut pair = UNIT_POS;
            while pair < comptime!(dim / 2) {
                let low = (pair / half * 2 * half + pair % half) as usize;
                let high = low + half as usize;
                let (a, b) = (vector[low], vector[high]);
                vector[low] = a + b;
                vector[high] = a - b;
                pair += UNITS;
            }
            sync_cube();
            half *= 2;
        }
        let mut i = UNIT_POS;
        while i < dim {
            y[(row * dim + i) as usize] = vector[i as usize] * norm;
            i += UNITS;
        }
    }
}
