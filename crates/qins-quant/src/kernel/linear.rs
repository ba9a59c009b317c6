//! Y = X·Wᵀ with W in the form it rests in, and the truth that kernels are judged by.

use super::{Rows, Simd, float, integer, row::Matrix};

/// `y[m, rows] = x[m, cols] · w[rows, cols]ᵀ` in `f32`.
///
/// Forms that are floats, or decode to them, are multiplied as floats: any two that decode to the same weights give the
/// same bits. Codes of 3 to 8 bits are multiplied as whole numbers, with the activations rounded to 16 bits: the result is
/// off by less than [`INTEGER_NMSE`](super::INTEGER_NMSE) of its mean square, and a row of `x` gives the same bits
/// alone as among others. The number of threads and the instruction set change no bit of either, but for floats of several
/// rows of `x`, where the products of [`gemm`] may be fused.
///
/// # Panics
/// When a slice does not have the length its shape asks for.
pub fn linear(w: Rows<'_>, shape: [usize; 2], x: &[f32], y: &mut [f32]) {
    linear_on(Simd::get(), w, shape, x, y);
}

/// As [`linear`], with a given instruction set.
///
/// # Panics
/// As [`linear`], and when this machine does not have it.
pub fn linear_on(simd: Simd, w: Rows<'_>, [rows, cols]: [usize; 2], x: &[f32], y: &mut [f32]) {
    assert!(simd.is_available(), "this machine has no {simd}");
    if rows == 0 || cols == 0 {
        y.fill(0.0);
        return;
    }
    let m = x.len() / cols;
    assert_eq!((x.len(), y.len()), (m * cols, m * rows), "linear: input or output does not fit [{rows}, {cols}]");
    if m == 0 {
        return;
    }
    match Matrix::new(w) {
        Some(w) => integer::product(simd, &w, [rows, cols], x, y),
        None => float::product(simd, w, [rows, cols], x, y),
    }
}

/// The product as its definition says, in `f64`, one weight at a time: the truth every kernel is judged by.
pub fn naive(w: Rows<'_>, [rows, cols]: [usize; 2], x: &[f32]) -> Vec<f64> {
    let mut row = vec![0.0; cols];
    let m = x.len().checked_div(cols).unwrap_or(0);
    let mut y = vec![0.0; m * rows];
    for r in 0..rows {
        w.decode_row(r, &mut row);
        for i in 0..m {
            y[i * rows + r] = row.iter().zip(&x[i * cols..]).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
        }
    }
    y
}
