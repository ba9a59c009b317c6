//! Y = X·Wᵀ with an encoded W, and the reference that kernels are tested against.

use super::{Rows, Simd, float, integer::Product, isa::compute, row::Matrix};

/// `y[m, rows] = x[m, cols] · w[rows, cols]ᵀ` in `f32`.
///
/// Plain weights, and the forms that decode to floats, are multiplied in `f32`: two forms that decode to the same weights give
/// the same bits. Codes of 3 to 8 bits are multiplied as integers, with activations rounded to 16 bits: the normalised mean
/// squared error is below [`INTEGER_NMSE`](super::INTEGER_NMSE), and a row of `x` gives the same bits alone as in a batch.
///
/// The result does not depend on the number of threads. Nor does it depend on the instruction set, except for products in
/// `f32` with several rows of `x`: with AVX2 and AVX-512 they are fused multiplications and additions, which give the same bits on
/// both, and elsewhere those of the crate [`gemm`].
///
/// # Panics
/// When the length of a slice does not match the shape.
pub fn linear(w: Rows<'_>, shape: [usize; 2], x: &[f32], y: &mut [f32]) {
    linear_on(Simd::get(), w, shape, x, y);
}

/// Like [`linear`], on a given instruction set.
///
/// # Panics
/// Like [`linear`], and when this machine does not have the instruction set.
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
    match Matrix::new(w, cols) {
        Some(w) => compute(simd, Product { w: &w, shape: [rows, cols], x, y }),
        None => float::product(simd, w, [rows, cols], x, y),
    }
}

/// The product by its definition, in `f64`, one weight at a time: the reference for every kernel.
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
