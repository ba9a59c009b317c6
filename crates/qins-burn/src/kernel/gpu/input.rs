//! Activations as kernels read them.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::{
    kv::narrowed,
    matrix::{Four, widened},
};

/// Units of a cube that takes numbers one by one.
pub(super) const UNITS: u32 = 128;

/// Four numbers of a row of `cols` from column `at` on; beyond the last column, 0. `x` is in vectors of four where rows are
/// whole multiples of 32, and else of one.
#[cube]
pub(super) fn load<F: Float, N: Size>(x: &[Vector<F, N>], row: u32, at: u32, cols: u32) -> Four {
    let width = N::value();
    if comptime!(width == 4) {
        Four::cast_from(x[((row * cols + at) / 4) as usize])
    } else {
        let mut numbers = Four::empty();
        #[unroll]
        for i in 0..4usize {
            let col = at + comptime!(i as u32);
            let inside = col < cols;
            let number = x[(row * cols + select(inside, col, 0u32)) as usize].extract(0usize);
            numbers.insert(i, select(inside, f32::cast_from(number), f32::new(0.0)));
        }
        numbers
    }
}

/// `n` numbers rounded to bf16, which not every device has a type for.
#[cube(launch_unchecked)]
pub(super) fn bf16(x: &[f32], y: &mut [f32], n: u32) {
    let at = ABSOLUTE_POS as u32;
    if at < n {
        y[at as usize] = widened(narrowed(x[at as usize], true), true);
    }
}
