//! Products of plain matrices, by the crate `gemm`.

/// Whether the right matrix is stored transposed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Transpose {
    /// It is stored as `[k, n]`.
    No,
    /// It is stored as `[n, k]`.
    Yes,
}

/// Whether the product is added to the output or overwrites it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Accumulate {
    /// Overwrite.
    No,
    /// Add.
    Yes,
}

/// `out[m, n] = left[m, k] · right`, or `+=`; all row-major, on one thread.
///
/// # Panics
/// When the length of a slice does not match its shape.
#[allow(unsafe_code)]
pub(crate) fn matmul(
    out: &mut [f32],
    left: &[f32],
    right: &[f32],
    [m, n, k]: [usize; 3],
    transpose: Transpose,
    accumulate: Accumulate,
) {
    assert_eq!((out.len(), left.len(), right.len()), (m * n, m * k, n * k), "matmul: lengths match the shapes");
    let (column, row) = if transpose == Transpose::Yes { (k, 1) } else { (1, n) };
    let stride = |length: usize| length as isize;
    // SAFETY: by the assertion above, every index that the strides reach lies inside its slice; `out` is borrowed mutably,
    // so it overlaps neither input.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride(n),
            accumulate == Accumulate::Yes,
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
