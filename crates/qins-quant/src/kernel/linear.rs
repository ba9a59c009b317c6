//! Y = X·Wᵀ with W encoded: a tile of rows is decoded, multiplied while it is in cache, and forgotten.

use rayon::prelude::*;

use super::Rows;

/// Decoded weights in flight per thread: half of a common 512 KiB second-level cache.
const TILE_BYTES: usize = 256 * 1024;

/// Rows of a tile at most, so that a small matrix has tiles for several threads; a multiple of common register blocks.
const TILE_ROWS: usize = 48;

/// `y[m, rows] = x[m, cols] · w[rows, cols]ᵀ` in `f32`.
///
/// Every form of `w` is multiplied by the same routine in the same order, so two forms that decode to the same weights
/// give the same bits, and so does any number of threads.
///
/// # Panics
/// When a slice does not have the length its shape asks for.
pub fn linear(w: Rows<'_>, [rows, cols]: [usize; 2], x: &[f32], y: &mut [f32]) {
    if rows == 0 || cols == 0 {
        y.fill(0.0);
        return;
    }
    let m = x.len() / cols;
    assert_eq!((x.len(), y.len()), (m * cols, m * rows), "linear: input or output does not fit [{rows}, {cols}]");
    if m == 1 {
        return transposed(w, cols, x, y);
    }
    // Threads share rows of W, which are columns of Y: they write Yᵀ, whose rows are theirs alone.
    let mut yt = vec![0.0; y.len()];
    transposed(w, cols, x, &mut yt);
    y.par_chunks_mut(rows).enumerate().for_each(|(i, y)| {
        for (y, yt) in y.iter_mut().zip(yt[i..].iter().step_by(m)) {
            *y = *yt;
        }
    });
}

/// `yt[rows, m] = w[rows, cols] · x[m, cols]ᵀ`.
fn transposed(w: Rows<'_>, cols: usize, x: &[f32], yt: &mut [f32]) {
    let m = x.len() / cols;
    if m == 0 {
        return;
    }
    // The shape alone decides: a product of fewer rows may be summed in another order.
    let tile = (TILE_BYTES / (4 * cols)).clamp(1, TILE_ROWS);
    yt.par_chunks_mut(tile * m).enumerate().for_each_init(Vec::new, |scratch, (i, out)| {
        gemm(w.tile(i * tile, out.len() / m, cols, scratch), x, cols, out);
    });
}

/// `out[n, m] = a[n, cols] · b[m, cols]ᵀ`, all row-major.
#[allow(unsafe_code)]
fn gemm(a: &[f32], b: &[f32], cols: usize, out: &mut [f32]) {
    let (n, m) = (a.len() / cols, b.len() / cols);
    assert_eq!((a.len(), b.len(), out.len()), (n * cols, m * cols, n * m));
    // SAFETY: the assertion above makes every index the strides reach lie inside its slice, and `out` is borrowed
    // mutably, so it overlaps neither input.
    unsafe {
        gemm::gemm(
            n,
            m,
            cols,
            out.as_mut_ptr(),
            1,
            m as isize,
            false,
            a.as_ptr(),
            1,
            cols as isize,
            b.as_ptr(),
            cols as isize,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
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
