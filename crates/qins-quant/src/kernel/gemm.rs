//! Products of plain matrices, by the crate `gemm`.

/// Whether the product is added to the output or overwrites it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Accumulate {
    /// Overwrite.
    No,
    /// Add.
    Yes,
}

/// A borrowed matrix whose elements (i, j) are at `i·strides[0] + j·strides[1]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a, T> {
    data: &'a [T],
    shape: [usize; 2],
    strides: [usize; 2],
}

impl<'a, T> View<'a, T> {
    /// # Panics
    /// When an element would be outside `data`.
    pub(crate) fn new(data: &'a [T], shape: [usize; 2], strides: [usize; 2]) -> Self {
        assert!(fits(data.len(), shape, strides), "a view of shape {shape:?} fits its data");
        Self { data, shape, strides }
    }

    /// Rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        let ([rows, cols], [row, col]) = (self.shape, self.strides);
        Self { shape: [cols, rows], strides: [col, row], ..self }
    }
}

fn fits(length: usize, [rows, cols]: [usize; 2], [row, col]: [usize; 2]) -> bool {
    rows == 0 || cols == 0 || (rows - 1) * row + (cols - 1) * col < length
}

/// Numbers that matrices are multiplied in.
pub(crate) trait Real: Copy + 'static {
    const ONE: Self;
}

impl Real for f32 {
    const ONE: Self = 1.0;
}

impl Real for f64 {
    const ONE: Self = 1.0;
}

/// `out = left · right`, or `+=`, on one thread; `out` is row-major, its rows `stride` elements apart.
///
/// # Panics
/// When shapes do not match, or `out` is too short.
#[allow(unsafe_code)]
pub(crate) fn product<T: Real>(
    out: &mut [T],
    stride: usize,
    left: View<'_, T>,
    right: View<'_, T>,
    accumulate: Accumulate,
) {
    let ([m, k], [right_rows, n]) = (left.shape, right.shape);
    assert!(k == right_rows && n <= stride && fits(out.len(), [m, n], [stride, 1]), "product: shapes match");
    let signed = |stride: usize| stride as isize;
    // SAFETY: every index that the strides reach lies inside its slice, for the inputs since `View::new`, for `out` by the
    // assertion above; `out` is borrowed mutably, so it overlaps neither input.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            signed(stride),
            accumulate == Accumulate::Yes,
            left.data.as_ptr(),
            signed(left.strides[1]),
            signed(left.strides[0]),
            right.data.as_ptr(),
            signed(right.strides[1]),
            signed(right.strides[0]),
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// `out[m, n] = left[m, k] · right[n, k]ᵀ`, all row-major, on one thread.
///
/// # Panics
/// When the length of a slice does not match its shape.
pub(super) fn matmul(out: &mut [f32], left: &[f32], right: &[f32], [m, n, k]: [usize; 3]) {
    assert_eq!((out.len(), left.len(), right.len()), (m * n, m * k, n * k), "matmul: lengths match the shapes");
    let right = View::new(right, [n, k], [k, 1]).transposed();
    product(out, n, View::new(left, [m, k], [k, 1]), right, Accumulate::No);
}
