//! Products of plain matrices, by the crate `gemm`.

/// How the right matrix lies in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Right {
    /// `[k, n]`.
    AsIs,
    /// `[n, k]`.
    Transposed,
}

/// What becomes of what is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sum {
    /// It is overwritten.
    New,
    /// The product is added to it.
    Added,
}

/// `out[m, n] (+)= left[m, k] · right`, all row-major, on one thread.
///
/// # Panics
/// When a slice is not of its shape.
#[allow(unsafe_code)]
pub(crate) fn matmul(out: &mut [f32], left: &[f32], right: &[f32], [m, n, k]: [usize; 3], form: Right, sum: Sum) {
    assert_eq!((out.len(), left.len(), right.len()), (m * n, m * k, n * k), "matmul: shapes that fit");
    let (column, row) = if form == Right::Transposed { (k, 1) } else { (1, n) };
    let stride = |length: usize| length as isize;
    // SAFETY: the assertion above makes every index the strides reach lie inside its slice, and `out` is borrowed
    // mutably, so it overlaps neither input.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride(n),
            sum == Sum::Added,
            left.as_ptr(),
            1,
            stride(k),
            right.as_ptr(),
            stride(column),
            stride(row),
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
