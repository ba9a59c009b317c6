//! The operations between products: RMSNorm, the rotation of queries and keys, and the gate of an MLP.
//!
//! Each row is computed by itself, and its sums have one order: a row gives the same bits alone as among others, on any number of threads and on every
//! instruction set.

use rayon::prelude::*;

use super::{Simd, exp::exp, simd::per_isa};

/// Elements from which on rows are shared among threads.
const SHARED: usize = 1 << 15;

/// Partial sums of a row.
const LANES: usize = 32;

/// √(2/π) and the coefficient of x³ in the approximation of GELU (Hendrycks and Gimpel, 2016).
pub const GELU: [f32; 2] = [0.797_884_6, 0.044_715];

/// RMSNorm of `x[n, width]`: each row over the root of its mean square plus `epsilon`, times `gamma[width]`.
///
/// # Panics
/// When the rows are not whole, or `y` is not of the length of `x`.
pub fn norm(x: &[f32], gamma: &[f32], epsilon: f32, y: &mut [f32]) {
    let width = gamma.len();
    assert!(x.len() == y.len() && x.len().checked_rem(width).unwrap_or(x.len()) == 0, "norm: whole rows of {width}");
    each_row(x.len(), y, width, |i, y| norm_row(Simd::get(), &x[i * width..][..width], gamma, epsilon, y));
}

/// `x[n, heads·dim]` as `[heads, n, dim]`, with half-split rotation of the first 2·pairs elements of each head by cos and sin, `[n, pairs]`; the
/// other elements are unchanged.
///
/// # Panics
/// When a length does not match the shape.
pub fn rotate(x: &[f32], [cos, sin]: [&[f32]; 2], [n, heads, dim]: [usize; 3], y: &mut [f32]) {
    let pairs = cos.len().checked_div(n).unwrap_or(0);
    assert!(x.len() == n * heads * dim && y.len() == x.len(), "rotate: [{n}, {heads}·{dim}]");
    assert!(cos.len() == n * pairs && sin.len() == cos.len() && 2 * pairs <= dim, "rotate: cos and sin of pairs");
    each_row(x.len(), y, dim, |row, y| {
        let (head, token) = (row / n, row % n);
        let tables = [cos, sin].map(|table| &table[token * pairs..][..pairs]);
        rotate_row(Simd::get(), &x[(token * heads + head) * dim..][..dim], tables, y);
    });
}

/// silu(gate)·up, for each element, in place of `gate`: x/(1 + e⁻ˣ) times the other.
///
/// # Panics
/// When they differ in length.
pub fn gate_silu(gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "gate_silu: as many of both");
    each_row(up.len(), gate, SHARED, |i, gate| silu(Simd::get(), gate, &up[i * SHARED..]));
}

/// gelu(gate)·up, for each element, in place of `gate`: by the approximation with tanh.
///
/// # Panics
/// When they differ in length.
pub fn gate_gelu(gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "gate_gelu: as many of both");
    each_row(up.len(), gate, SHARED, |i, gate| gelu(Simd::get(), gate, &up[i * SHARED..]));
}

/// Computes rows of `y`, on all threads if there are many elements.
fn each_row(elements: usize, y: &mut [f32], width: usize, row: impl Fn(usize, &mut [f32]) + Sync) {
    let width = width.max(1);
    if elements < SHARED {
        return y.chunks_mut(width).enumerate().for_each(|(i, y)| row(i, y));
    }
    // Several rows at a time: one is little work.
    let rows = (SHARED / 8 / width).max(1);
    y.par_chunks_mut(rows * width).enumerate().for_each(|(part, y)| {
        y.chunks_mut(width).enumerate().for_each(|(i, y)| row(part * rows + i, y));
    });
}

per_isa! { fn norm_row(x: &[f32], gamma: &[f32], epsilon: f32, y: &mut [f32]) = norm_row_inlined }

#[inline(always)]
fn norm_row_inlined(x: &[f32], gamma: &[f32], epsilon: f32, y: &mut [f32]) {
    let mut sums = [0.0; LANES];
    for x in x.chunks(LANES) {
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum += x * x;
        }
    }
    let mut left = LANES;
    while left > 1 {
        left /= 2;
        for i in 0..left {
            sums[i] += sums[i + left];
        }
    }
    let root = (sums[0] / x.len() as f32 + epsilon).sqrt();
    for ((y, x), gamma) in y.iter_mut().zip(x).zip(gamma) {
        *y = x / root * gamma;
    }
}

per_isa! { fn rotate_row(x: &[f32], tables: [&[f32]; 2], y: &mut [f32]) = rotate_row_inlined }

#[inline(always)]
fn rotate_row_inlined(x: &[f32], [cos, sin]: [&[f32]; 2], y: &mut [f32]) {
    let pairs = cos.len();
    let ((a, rest), (to_a, to_rest)) = (x.split_at(pairs), y.split_at_mut(pairs));
    let ((b, others), (to_b, to_others)) = (rest.split_at(pairs), to_rest.split_at_mut(pairs));
    for i in 0..pairs {
        to_a[i] = a[i] * cos[i] - b[i] * sin[i];
        to_b[i] = b[i] * cos[i] + a[i] * sin[i];
    }
    to_others.copy_from_slice(others);
}

per_isa! { fn silu(gate: &mut [f32], up: &[f32]) = silu_inlined }

#[inline(always)]
fn silu_inlined(gate: &mut [f32], up: &[f32]) {
    for (x, up) in gate.iter_mut().zip(up) {
        // The exponential of a number that is not positive: 1/(1 + e⁻ˣ) = eˣ/(1 + eˣ).
        let power = exp(-x.abs());
        let part = if *x < 0.0 { power } else { 1.0 };
        *x = *x * (part / (1.0 + power)) * up;
    }
}

per_isa! { fn gelu(gate: &mut [f32], up: &[f32]) = gelu_inlined }

#[inline(always)]
fn gelu_inlined(gate: &mut [f32], up: &[f32]) {
    let [scale, cubic] = GELU;
    for (x, up) in gate.iter_mut().zip(up) {
        // (1 + tanh(t))/2 = 1/(1 + e⁻²ᵗ), as above.
        let t = 2.0 * scale * (*x + cubic * *x * *x * *x);
        let power = exp(-t.abs());
        let part = if t < 0.0 { power } else { 1.0 };
        *x = *x * (part / (1.0 + power)) * up;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::numbers;

    /// The mean squared error relative to the mean square.
    fn nmse(found: &[f32], expected: impl Iterator<Item = f64> + Clone) -> f64 {
        let error: f64 = found.iter().zip(expected.clone()).map(|(x, y)| (f64::from(*x) - y).powi(2)).sum();
        error / expected.map(|y| y * y).sum::<f64>()
    }

    /// Of single precision.
    const BOUND: f64 = 1e-12;

    #[test]
    fn norm_is_that_of_the_definition() {
        for width in [1, 31, 64, 100, 576] {
            let (x, gamma) = (numbers(3 * width), numbers(width));
            let mut y = vec![0.0; 3 * width];
            norm(&x, &gamma, 1e-5, &mut y);
            let root = |row: usize| {
                let squares = x[row * width..][..width].iter().map(|x| f64::from(*x).powi(2));
                (squares.sum::<f64>() / width as f64 + 1e-5).sqrt()
            };
            let expected = (0..3 * width).map(|i| f64::from(x[i]) / root(i / width) * f64::from(gamma[i % width]));
            let error = nmse(&y, expected.clone());
            assert!(error < BOUND, "{width}: {error:e}");
            // A row alone, and the control: a tenth of the smallest element more is noticed.
            let mut alone = vec![0.0; width];
            norm(&x[width..2 * width], &gamma, 1e-5, &mut alone);
            assert_eq!(alone, y[width..2 * width]);
            assert!(nmse(&y, expected.map(|y| y * 1.00001)) > BOUND);
        }
    }

    #[test]
    fn gates_are_those_of_the_definition() {
        let (gate, up) = (numbers(3000).into_iter().map(|x| 3.0 * x).collect::<Vec<_>>(), numbers(3000));
        let of = |f: fn(&mut [f32], &[f32])| {
            let mut y = gate.clone();
            f(&mut y, &up);
            y
        };
        let product = |f: fn(f64) -> f64| gate.iter().zip(&up).map(move |(x, up)| f(f64::from(*x)) * f64::from(*up));
        let silu = |x: f64| x / (1.0 + (-x).exp());
        let gelu = |x: f64| 0.5 * x * (1.0 + (f64::from(GELU[0]) * (x + f64::from(GELU[1]) * x.powi(3))).tanh());
        let errors = [nmse(&of(gate_silu), product(silu)), nmse(&of(gate_gelu), product(gelu))];
        assert!(errors.iter().all(|error| *error < BOUND), "{errors:?}");
        // Control: they are not each other.
        assert!(nmse(&of(gate_silu), product(gelu)) > 1e-4);
        // NaN and infinities stay what they are.
        for f in [gate_silu, gate_gelu] {
            let mut odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1e30, 1e30];
            f(&mut odd, &[1.0; 5]);
            assert!(odd[0].is_nan() && odd[1] == f32::INFINITY && odd[4] == 1e30, "{odd:?}");
        }
    }

    #[test]
    fn rotation_is_that_of_the_definition() {
        let (n, heads, dim, pairs) = (5, 3, 20, 8);
        let (x, angles) = (numbers(n * heads * dim), numbers(n * pairs));
        let [cos, sin] = [f32::cos, f32::sin].map(|f| angles.iter().map(|a| f(*a)).collect::<Vec<_>>());
        let mut y = vec![0.0; x.len()];
        rotate(&x, [&cos, &sin], [n, heads, dim], &mut y);
        let expected = (0..x.len()).map(|i| {
            let (head, token, c) = (i / (n * dim), i / dim % n, i % dim);
            let at = |c: usize| f64::from(x[(token * heads + head) * dim + c]);
            let turn = |c: usize| f64::from(angles[token * pairs + c]).sin_cos();
            match c {
                c if c < pairs => at(c) * turn(c).1 - at(c + pairs) * turn(c).0,
                c if c < 2 * pairs => at(c) * turn(c - pairs).1 + at(c - pairs) * turn(c - pairs).0,
                c => at(c),
            }
        });
        let error = nmse(&y, expected.clone());
        assert!(error < BOUND, "{error:e}");
        // Control: the order of heads and tokens is noticed.
        assert!(nmse(&x, expected) > 0.1);
    }

    #[test]
    fn every_instruction_set_gives_the_bits_of_the_portable_code() {
        let (x, gamma) = (numbers(1000), numbers(1000));
        let computed = |simd: Simd| {
            let [mut normed, mut by_silu, mut by_gelu, mut rotated] = [(); 4].map(|()| x.clone());
            norm_row(simd, &x, &gamma, 1e-6, &mut normed);
            silu(simd, &mut by_silu, &gamma);
            gelu(simd, &mut by_gelu, &gamma);
            rotate_row(simd, &x, [&gamma[..400], &gamma[400..800]], &mut rotated);
            [normed, by_silu, by_gelu, rotated].concat().iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        let expected = computed(Simd::Portable);
        for simd in Simd::ALL.into_iter().filter(|simd| simd.is_available()) {
            assert_eq!(computed(simd), expected, "{simd}");
        }
        // Control: the operations differ.
        assert_ne!(expected[..1000], expected[1000..2000]);
    }

    #[test]
    fn rows_on_many_threads_are_those_of_one() {
        let width = 100;
        let (x, gamma) = (numbers(2 * SHARED), numbers(width));
        let x = &x[..2 * SHARED / width * width];
        let mut y = vec![0.0; x.len()];
        norm(x, &gamma, 1e-5, &mut y);
        for (x, y) in x.chunks(width).zip(y.chunks(width)) {
            let mut alone = vec![0.0; width];
            norm(x, &gamma, 1e-5, &mut alone);
            assert_eq!(alone, y);
        }
    }
}
