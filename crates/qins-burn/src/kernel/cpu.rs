//! The operations on Burn's CPU backends: a thin bridge to the kernels on slices.

use burn::backend::tensor::{FloatTensor, IntTensor};
use qins_quant::{Alpha, FloatDtype, GroupedRows, Layout, kernel};
use rayon::prelude::*;

use super::backend::{QinsBackend, Weight};

/// The kernel's view of the weights; every slice is a whole tensor.
enum Slices<'a> {
    Dense(&'a [f32]),
    Half { words: &'a [u32], bf16: bool },
    F32 { u: &'a [f32], alpha: Alpha, source: FloatDtype },
    Q8 { words: &'a [u32], scale: &'a [f32], curvature: &'a [f32] },
    Grouped { layout: Layout, parts: [&'a [u32]; 3], scale: &'a [f32], curvature: &'a [f32] },
}

impl<'a> Slices<'a> {
    /// Rows of `cols` columns, and how many.
    fn rows(&self, cols: usize) -> (kernel::Rows<'a>, usize) {
        let every = |len: usize, stride: usize| len.checked_div(stride).unwrap_or(0);
        match *self {
            Self::Dense(w) => (kernel::Rows::Dense(w), every(w.len(), cols)),
            Self::Half { words, bf16 } => {
                let rows =
                    kernel::Rows::Half { words: bytemuck::cast_slice(words), stride: cols.next_multiple_of(2), bf16 };
                (rows, every(words.len(), cols.div_ceil(2)))
            }
            Self::F32 { u, alpha, source } => (kernel::Rows::F32 { u, alpha, source }, every(u.len(), cols)),
            Self::Q8 { words, scale, curvature } => {
                let codes = bytemuck::cast_slice(words);
                (kernel::Rows::Q8 { codes, stride: cols.next_multiple_of(4), scale, curvature }, scale.len())
            }
            Self::Grouped { layout, parts, scale, curvature } => {
                let [packed, group_scale, selector]: [&[u8]; 3] = parts.map(bytemuck::cast_slice);
                let w =
                    GroupedRows { layout, align: size_of::<u32>(), packed, scale, group_scale, selector, curvature };
                (kernel::Rows::Grouped(w), every(packed.len(), layout.packed(cols)))
            }
        }
    }
}

/// `x[m, cols] · wᵀ`; gives `[m, rows]`.
fn product(x: &[f32], [m, cols]: [usize; 2], w: &Slices<'_>) -> (Vec<f32>, [usize; 2]) {
    let (w, rows) = w.rows(cols);
    let mut y = vec![0.0; m * rows];
    kernel::linear(w, [rows, cols], x, &mut y);
    (y, [m, rows])
}

/// Some rows, decoded: `[n, cols]`.
fn decoded(ids: &[u32], cols: usize, w: &Slices<'_>) -> (Vec<f32>, [usize; 2]) {
    let (w, _) = w.rows(cols);
    let mut numbers = vec![0.0; ids.len() * cols];
    let rows = ids.par_iter().zip(numbers.par_chunks_mut(cols.max(1)));
    rows.for_each(|(&id, numbers)| w.decode_row(id as usize, numbers));
    (numbers, [ids.len(), cols])
}

#[cfg(feature = "flex")]
mod flex {
    use burn::{
        backend::{
            Flex,
            flex::{FlexTensor, Layout},
        },
        tensor::{Bytes, DType, Shape},
    };

    use super::*;

    impl QinsBackend for Flex {
        fn qins_linear(x: FloatTensor<Self>, weight: Weight<Self>) -> FloatTensor<Self> {
            let x = x.to_contiguous();
            let [m, cols] = [x.layout().shape()[0], x.layout().shape()[1]];
            floats(with_slices(weight, |w| product(whole(&x), [m, cols], w)))
        }

        fn qins_rows(ids: IntTensor<Self>, weight: Weight<Self>, cols: usize) -> FloatTensor<Self> {
            let ids = ids.to_contiguous();
            floats(with_slices(weight, |w| decoded(whole(&ids), cols, w)))
        }
    }

    fn with_slices<R>(weight: Weight<Flex>, f: impl FnOnce(&Slices<'_>) -> R) -> R {
        match weight {
            Weight::Dense(w) => f(&Slices::Dense(whole(&w.to_contiguous()))),
            Weight::Half { words, bf16 } => f(&Slices::Half { words: whole(&words.to_contiguous()), bf16 }),
            Weight::F32 { u, alpha, source } => f(&Slices::F32 { u: whole(&u.to_contiguous()), alpha, source }),
            Weight::Q8 { words, scale, curvature } => {
                let [words, scale, curvature] = [words, scale, curvature].map(|part| part.to_contiguous());
                f(&Slices::Q8 { words: whole(&words), scale: whole(&scale), curvature: whole(&curvature) })
            }
            Weight::Grouped { layout, packed, scale, group_scale, selector, curvature } => {
                let parts = [packed, group_scale, selector].map(|part| part.to_contiguous());
                let [scale, curvature] = [scale, curvature].map(|part| part.to_contiguous());
                let parts = [whole(&parts[0]), whole(&parts[1]), whole(&parts[2])];
                f(&Slices::Grouped { layout, parts, scale: whole(&scale), curvature: whole(&curvature) })
            }
        }
    }

    fn floats((values, shape): (Vec<f32>, [usize; 2])) -> FlexTensor {
        FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(Shape::from(shape)), DType::F32)
    }

    /// All elements of a contiguous tensor.
    fn whole<E: burn::tensor::Element + bytemuck::Pod>(tensor: &FlexTensor) -> &[E] {
        tensor.as_slice().expect("contiguous, and of the type the module made")
    }
}

#[cfg(feature = "ndarray")]
mod ndarray {
    use burn::backend::{
        NdArray,
        ndarray::{NdArrayTensor, SharedArray},
    };

    use super::*;

    impl QinsBackend for NdArray {
        fn qins_linear(x: FloatTensor<Self>, weight: Weight<Self>) -> FloatTensor<Self> {
            let x = floats(x);
            let [m, cols] = [x.shape()[0], x.shape()[1]];
            tensor(with_slices(weight, |w| product(whole(&x), [m, cols], w)))
        }

        fn qins_rows(ids: IntTensor<Self>, weight: Weight<Self>, cols: usize) -> FloatTensor<Self> {
            let ids = words(ids);
            tensor(with_slices(weight, |w| decoded(whole(&ids), cols, w)))
        }
    }

    fn with_slices<R>(weight: Weight<NdArray>, f: impl FnOnce(&Slices<'_>) -> R) -> R {
        match weight {
            Weight::Dense(w) => f(&Slices::Dense(whole(&floats(w)))),
            Weight::Half { words: halves, bf16 } => f(&Slices::Half { words: whole(&words(halves)), bf16 }),
            Weight::F32 { u, alpha, source } => f(&Slices::F32 { u: whole(&floats(u)), alpha, source }),
            Weight::Q8 { words: codes, scale, curvature } => {
                let (codes, scale, curvature) = (words(codes), floats(scale), floats(curvature));
                f(&Slices::Q8 { words: whole(&codes), scale: whole(&scale), curvature: whole(&curvature) })
            }
            Weight::Grouped { layout, packed, scale, group_scale, selector, curvature } => {
                let parts = [packed, group_scale, selector].map(words);
                let [scale, curvature] = [scale, curvature].map(floats);
                let parts = [whole(&parts[0]), whole(&parts[1]), whole(&parts[2])];
                f(&Slices::Grouped { layout, parts, scale: whole(&scale), curvature: whole(&curvature) })
            }
        }
    }

    fn tensor((values, shape): (Vec<f32>, [usize; 2])) -> NdArrayTensor {
        SharedArray::from_shape_vec(shape.to_vec(), values).expect("the values fill their shape").into()
    }

    fn floats(tensor: NdArrayTensor) -> SharedArray<f32> {
        let NdArrayTensor::F32(storage) = tensor else { unreachable!("the model computes in F32") };
        row_major(storage.into_shared())
    }

    fn words(tensor: NdArrayTensor) -> SharedArray<u32> {
        let NdArrayTensor::U32(storage) = tensor else { unreachable!("the modules make codes of U32") };
        row_major(storage.into_shared())
    }

    /// Shared, not copied, where it is row-major already.
    fn row_major<E: Clone>(array: SharedArray<E>) -> SharedArray<E> {
        if array.is_standard_layout() { array } else { array.as_standard_layout().into_owned().into_shared() }
    }

    fn whole<E>(array: &SharedArray<E>) -> &[E] {
        array.as_slice().expect("row-major")
    }
}
