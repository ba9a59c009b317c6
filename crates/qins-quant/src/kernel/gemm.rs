//! Products of plain matrices: in `f32` by [`many`](super::float::many) where there is AVX2, else by the crate `gemm`.

use super::Simd;
#[cfg(target_arch = "x86_64")]
use super::float::{many, tiles::Arranging};

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

    /// The rows and columns of these ranges.
    pub(crate) fn part(self, rows: [usize; 2], columns: [usize; 2]) -> Self {
        let [row, col] = self.strides;
        let shape = [rows[1] - rows[0], columns[1] - columns[0]];
        let first = if shape.contains(&0) { 0 } else { rows[0] * row + columns[0] * col };
        Self::new(&self.data[first..], shape, self.strides)
    }

    /// Rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        let ([rows, cols], [row, col]) = (self.shape, self.strides);
        Self { shape: [cols, rows], strides: [col, row], ..self }
    }
}

/// What [`many`] reads.
#[cfg(target_arch = "x86_64")]
impl View<'_, f32> {
    /// `[rows, columns]`.
    pub(super) fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The elements of row `row` from column `first` on, as many as `out` has.
    #[inline(always)]
    pub(super) fn copy_row(&self, row: usize, first: usize, out: &mut [f32]) {
        let (from, stride) = (row * self.strides[0] + first * self.strides[1], self.strides[1]);
        if stride == 1 {
            out.copy_from_slice(&self.data[from..][..out.len()]);
        } else {
            out.iter_mut().zip(self.data[from..].iter().step_by(stride)).for_each(|(out, x)| *out = *x);
        }
    }

    /// Whether columns, and not rows, are contiguous.
    pub(super) fn is_by_columns(&self) -> bool {
        self.strides[0] == 1
    }
}

fn fits(length: usize, [rows, cols]: [usize; 2], [row, col]: [usize; 2]) -> bool {
    rows == 0 || cols == 0 || (rows - 1) * row + (cols - 1) * col < length
}

/// Numbers that matrices are multiplied in.
pub(crate) trait Real: Copy + 'static {
    const ZERO: Self;
    const ONE: Self;

    /// `out += left · right`, or `false` if it is not computed here.
    fn add_product(
        _simd: Simd,
        _out: &mut [Self],
        _stride: usize,
        _left: View<'_, Self>,
        _right: View<'_, Self>,
    ) -> bool {
        false
    }
}

/// Multiplications from which those of `f32` are computed here: fewer take less time than what is arranged for them.
#[cfg(target_arch = "x86_64")]
const MANY: usize = 1 << 16;

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    #[cfg(target_arch = "x86_64")]
    fn add_product(simd: Simd, out: &mut [f32], stride: usize, left: View<'_, f32>, right: View<'_, f32>) -> bool {
        let ([m, k], [_, n]) = (left.shape, right.shape);
        let here = simd.fuses_floats() && m * n * k >= MANY;
        if here {
            Arranging::with(right, |right| many::add_product(simd, out, stride, left, n, right));
        }
        here
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
}

/// `out = left · right`, or `+=`, on one thread; `out` is row-major, its rows `stride` elements apart.
///
/// # Panics
/// When shapes do not match, or `out` is too short.
pub(crate) fn product<T: Real>(
    out: &mut [T],
    stride: usize,
    left: View<'_, T>,
    right: View<'_, T>,
    accumulate: Accumulate,
) {
    product_on(Simd::get(), out, stride, left, right, accumulate);
}

/// As [`product`], on a given instruction set that this machine has.
#[allow(unsafe_code)]
pub(super) fn product_on<T: Real>(
    simd: Simd,
    out: &mut [T],
    stride: usize,
    left: View<'_, T>,
    right: View<'_, T>,
    accumulate: Accumulate,
) {
    let ([m, k], [_, n]) = (left.shape, right.shape);
    prepare(out, stride, left, right.shape, accumulate);
    if T::add_product(simd, out, stride, left, right) {
        return;
    }
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
            true,
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

/// Zeros, or what the product is added to.
///
/// # Panics
/// When shapes do not match, or `out` is too short.
pub(super) fn prepare<T: Real>(
    out: &mut [T],
    stride: usize,
    left: View<'_, T>,
    [right_rows, n]: [usize; 2],
    accumulate: Accumulate,
) {
    let [m, k] = left.shape;
    assert!(k == right_rows && n <= stride && fits(out.len(), [m, n], [stride, 1]), "product: shapes match");
    if accumulate == Accumulate::No {
        (0..m).for_each(|i| out[i * stride..][..n].fill(T::ZERO));
    }
}

/// `out[m, n] = left[m, k] · right[n, k]ᵀ`, all row-major, on one thread.
///
/// # Panics
/// When the length of a slice does not match its shape.
pub(super) fn matmul(simd: Simd, out: &mut [f32], left: &[f32], right: &[f32], [m, n, k]: [usize; 3]) {
    assert_eq!((out.len(), left.len(), right.len()), (m * n, m * k, n * k), "matmul: lengths match the shapes");
    let right = View::new(right, [n, k], [k, 1]).transposed();
    product_on(simd, out, n, View::new(left, [m, k], [k, 1]), right, Accumulate::No);
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::kernel) fn numbers(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| (((i + seed) * 7919 + i * i % 97) % 1013) as f32 / 506.5 - 1.0).collect()
    }

    /// A matrix `[rows, cols]` in more memory than it needs, by rows or by columns.
    fn view(data: &[f32], [rows, cols]: [usize; 2], by_columns: bool) -> View<'_, f32> {
        if by_columns {
            View::new(data, [cols, rows], [rows + 3, 1]).transposed()
        } else {
            View::new(data, [rows, cols], [cols + 3, 1])
        }
    }

    fn at(view: &View<'_, f32>, i: usize, j: usize) -> f64 {
        f64::from(view.data[i * view.strides[0] + j * view.strides[1]])
    }

    #[test]
    fn products_are_those_in_f64_of_any_shape_and_strides() {
        for [m, k, n] in [[1, 1, 1], [64, 256, 64], [70, 300, 50], [13, 600, 97], [64, 1000, 256], [5, 40, 7]] {
            for (left_by_columns, right_by_columns) in [(false, false), (false, true), (true, false)] {
                let [left, right] = [numbers((m + 3) * (k + 3), 1), numbers((k + 3) * (n + 3), 2)];
                let (left, right) = (view(&left, [m, k], left_by_columns), view(&right, [k, n], right_by_columns));
                let before = numbers(m * (n + 2), 3);
                for accumulate in [Accumulate::No, Accumulate::Yes] {
                    let mut out = before.clone();
                    product(&mut out, n + 2, left, right, accumulate);
                    let (mut error, mut square) = (0.0_f64, 0.0_f64);
                    for (i, j) in (0..m * n).map(|ij| (ij / n, ij % n)) {
                        let start =
                            if accumulate == Accumulate::Yes { f64::from(before[i * (n + 2) + j]) } else { 0.0 };
                        let sum = (0..k).map(|k| at(&left, i, k) * at(&right, k, j)).sum::<f64>() + start;
                        error += (f64::from(out[i * (n + 2) + j]) - sum).powi(2);
                        square += sum * sum;
                    }
                    assert!(error < 1e-12 * square, "{m}×{k}×{n}: NMSE {}", error / square);
                    // What lies between rows stays.
                    let between = |x: &[f32]| x.chunks(n + 2).map(|row| row[n..].to_vec()).collect::<Vec<_>>();
                    assert_eq!(between(&out), between(&before));
                }
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn instruction_sets_that_fuse_give_the_same_bits_with_any_rows() {
        let [m, k, n] = [70, 300, 50];
        let [left, right] = [numbers(m * k, 1), numbers(k * n, 2)];
        let right = View::new(&right, [k, n], [n, 1]);
        let sets = Simd::ALL.into_iter().filter(|simd| simd.is_available() && simd.fuses_floats());
        let all: Vec<Vec<f32>> = sets
            .flat_map(|simd| {
                [1, 7, m].map(|rows| {
                    let mut out = vec![0.0; m * n];
                    for (left, out) in left.chunks(rows * k).zip(out.chunks_mut(rows * n)) {
                        let left = View::new(left, [left.len() / k, k], [k, 1]);
                        Arranging::with(right, |right| many::add_product(simd, out, n, left, n, right));
                    }
                    out
                })
            })
            .collect();
        assert!(all.iter().all(|out| *out == all[0]));
    }
}
