//! Products of plain matrices, by the crate `gemm`.

/// `out[m, n] = left[m, k] · right[n, k]ᵀ`, all row-major, on one thread.
///
/// # Panics
/// When the length of a slice does not match its shape.
#[allow(unsafe_code)]
pub(super) fn matmul(out: &mut [f32], left: &[f32], right: &[f32], [m, n, k]: [usize; 3]) {
    assert_eq!((out.len(), left.len(), right.len()), (m * n, m * k, n * k), "matmul: lengths match the shapes");
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
            false,
            left.as_ptr(),
            1,
            stride(k),
            right.as_ptr(),
            stride(k),
            1,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
