//! Activations: reading them, and the operations between products.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use qins_model::Activation;

use super::{
    super::backend::{GELU_CUBIC, GELU_SCALE},
    kv::narrowed,
    matrix::{Four, widened},
};

/// Units of a cube in elementwise kernels.
pub(super) const UNITS: u32 = 128;

/// Four elements of a row of `cols` from column `at` on; beyond the last column, 0. `x` is in vectors of four if `cols` is
/// a multiple of 32, else of one.
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

/// Units of a cube that normalises a row.
pub(super) const NORM_UNITS: usize = 256;

/// RMSNorm of rows `x[n, width]`: each over the root of its mean square, times `gamma[width]`; one cube per row.
#[cube(launch_unchecked)]
pub(super) fn norm(x: &[f32], gamma: &[f32], y: &mut [f32], n: u32, width: u32, epsilon: f32) {
    let row = CUBE_POS as u32;
    if row < n {
        let unit = UNIT_POS as usize;
        let mut squares = Shared::<[f32]>::new_slice(NORM_UNITS);
        let mut sum = 0.0f32;
        let mut i = UNIT_POS;
        while i < width {
            let number = x[(row * width + i) as usize];
            sum += number * number;
            i += comptime!(NORM_UNITS as u32);
        }
        squares[unit] = sum;
        sync_cube();
        // Sixteen sums of sixteen, with two barriers.
        let mut some = Shared::<[f32]>::new_slice(16usize);
        if unit < 16 {
            let mut part = 0.0f32;
            #[unroll]
            for i in 0..16usize {
                part += squares[16 * unit + i];
            }
            some[unit] = part;
        }
        sync_cube();
        let mut total = 0.0f32;
        #[unroll]
        for i in 0..16usize {
            total += some[i];
        }
        let root = (total / f32::cast_from(width) + epsilon).sqrt();
        let mut i = UNIT_POS;
        while i < width {
            y[(row * width + i) as usize] = x[(row * width + i) as usize] / root * gamma[i as usize];
            i += comptime!(NORM_UNITS as u32);
        }
    }
}

/// activation(gate)·up of `n` elements.
#[cube(launch_unchecked)]
pub(super) fn gated(gate: &[f32], up: &[f32], y: &mut [f32], n: u32, #[comptime] activation: Activation) {
    let at = ABSOLUTE_POS as u32;
    if at < n {
        let g = gate[at as usize];
        let activated = match comptime!(activation) {
            Activation::Silu => g / (1.0 + (-g).exp()),
            Activation::GeluTanh => 0.5 * g * (1.0 + tanh(GELU_SCALE * (g + GELU_CUBIC * g * g * g))),
        };
        y[at as usize] = activated * up[at as usize];
    }
}

/// tanh(x), also where a driver's own overflows: from 10 on it is 1 in `f32`.
#[cube]
pub(super) fn tanh(x: f32) -> f32 {
    // Comparisons, which a NaN fails: the maximum of a NaN and a number may be the number.
    select(x > f32::new(10.0), f32::new(1.0), select(x < f32::new(-10.0), f32::new(-1.0), x.tanh()))
}

/// `n` elements rounded to bf16, a type that not every device has.
#[cube(launch_unchecked)]
pub(super) fn bf16(x: &[f32], y: &mut [f32], n: u32) {
    let at = ABSOLUTE_POS as u32;
    if at < n {
        y[at as usize] = widened(narrowed(x[at as usize], true), true);
    }
}

/// `x[n, heads·dim]` as `y[heads, n, dim]`, with half-split rotation of the first 2·`half` elements of each head by tables
/// `[n, half]`.
#[cube(launch_unchecked)]
pub(super) fn rotate(x: &[f32], cos: &[f32], sin: &[f32], y: &mut [f32], n: u32, heads: u32, dim: u32, half: u32) {
    let at = ABSOLUTE_POS as u32;
    if at < n * heads * dim {
        let (c, i, head) = (at % dim, at / dim % n, at / dim / n);
        let from = (i * heads + head) * dim;
        let number = x[(from + c) as usize];
        if c < 2 * half {
            let first = c < half;
            let other = x[(from + select(first, c + half, c - half.min(c))) as usize];
            let table = (i * half + c % half) as usize;
            y[at as usize] = number * cos[table] + select(first, -other, other) * sin[table];
        } else {
            y[at as usize] = number;
        }
    }
}
