//! The product as an operation of Burn's CPU backends: a thin bridge to the kernels on slices.

use burn::backend::{
    ExtensionType, backend_extension,
    tensor::{FloatTensor, IntTensor},
};
use qins_quant::{Alpha, FloatDtype, GroupedRows, Layout, kernel};

/// [`super::Matrix`] with a backend's own tensors.
#[derive(ExtensionType)]
#[allow(unreachable_pub)] // The derived and generated code is public.
pub enum Weight<B: burn::backend::Backend> {
    /// Plain weights.
    Dense(FloatTensor<B>),
    /// Plain weights of 16 bits, two a word.
    Half {
        /// `[rows, ⌈cols/2⌉]`.
        words: IntTensor<B>,
        /// Or else f16.
        bf16: bool,
    },
    /// The complement form.
    F32 {
        /// `[rows, cols]`.
        u: FloatTensor<B>,
        /// Shared α.
        alpha: Alpha,
        /// Type before encoding.
        source: FloatDtype,
    },
    /// 8-bit codes, four a word.
    Q8 {
        /// `[rows, ⌈cols/4⌉]`.
        words: IntTensor<B>,
        /// `[rows]`.
        scale: FloatTensor<B>,
        /// `[rows]`.
        curvature: FloatTensor<B>,
    },
    /// Codes in groups; the parts of [`super::Groups`].
    #[allow(missing_docs)]
    Grouped {
        layout: Layout,
        packed: IntTensor<B>,
        scale: FloatTensor<B>,
        group_scale: IntTensor<B>,
        selector: IntTensor<B>,
        curvature: FloatTensor<B>,
    },
}

/// What a backend must be able to do beyond Burn's own operations.
#[backend_extension(Flex: cfg(feature = "flex"), NdArray: cfg(feature = "ndarray"))]
#[allow(unreachable_pub)]
pub trait QinsBackend: burn::backend::Backend {
    /// `x[m, cols] · weightᵀ`.
    fn qins_linear(x: FloatTensor<Self>, #[extension_type] weight: Weight<Self>) -> FloatTensor<Self>;

    /// The `cols` numbers of each row of 16-bit ones.
    fn qins_widen(words: IntTensor<Self>, bf16: bool, cols: usize) -> FloatTensor<Self>;
}

/// The kernel's view of the weights; every slice is a whole tensor.
enum Slices<'a> {
    Dense(&'a [f32]),
    Half { words: &'a [u32], bf16: bool },
    F32 { u: &'a [f32], alpha: Alpha, source: FloatDtype },
    Q8 { words: &'a [u32], scale: &'a [f32], curvature: &'a [f32] },
    Grouped { layout: Layout, parts: [&'a [u32]; 3], scale: &'a [f32], curvature: &'a [f32] },
}

/// `x[m, cols] · wᵀ`; gives `[m, rows]`.
fn product(x: &[f32], [m, cols]: [usize; 2], w: &Slices<'_>) -> (Vec<f32>, [usize; 2]) {
    let (rows, w) = match *w {
        Slices::Dense(w) => (w.len() / cols, kernel::Rows::Dense(w)),
        Slices::Half { words, bf16 } => (words.len() / cols.div_ceil(2), half(words, bf16, cols)),
        Slices::F32 { u, alpha, source } => (u.len() / cols, kernel::Rows::F32 { u, alpha, source }),
        Slices::Q8 { words, scale, curvature } => {
            let codes = bytemuck::cast_slice(words);
            (scale.len(), kernel::Rows::Q8 { codes, stride: cols.next_multiple_of(4), scale, curvature })
        }
        Slices::Grouped { layout, parts, scale, curvature } => {
            let [packed, group_scale, selector]: [&[u8]; 3] = parts.map(bytemuck::cast_slice);
            let rows = packed.len() / layout.packed(cols);
            let w = GroupedRows { layout, align: size_of::<u32>(), packed, scale, group_scale, selector, curvature };
            (rows, kernel::Rows::Grouped(w))
        }
    };
    let mut y = vec![0.0; m * rows];
    kernel::linear(w, [rows, cols], x, &mut y);
    (y, [m, rows])
}

fn half(words: &[u32], bf16: bool, cols: usize) -> kernel::Rows<'_> {
    kernel::Rows::Half { words: bytemuck::cast_slice(words), stride: cols.next_multiple_of(2), bf16 }
}

/// The numbers of 16-bit words; `[rows, cols]`.
fn widened(words: &[u32], bf16: bool, cols: usize) -> (Vec<f32>, [usize; 2]) {
    let rows = words.len() / cols.div_ceil(2).max(1);
    let mut numbers = vec![0.0; rows * cols];
    for (r, numbers) in numbers.chunks_mut(cols.max(1)).enumerate() {
        half(words, bf16, cols).decode_row(r, numbers);
    }
    (numbers, [rows, cols])
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
            let (w, scale, curvature, group_scale, selector);
            let slices = match weight {
                Weight::Dense(dense) => {
                    w = dense.to_contiguous();
                    Slices::Dense(whole(&w))
                }
                Weight::Half { words, bf16 } => {
                    w = words.to_contiguous();
                    Slices::Half { words: whole(&w), bf16 }
                }
                Weight::F32 { u, alpha, source } => {
                    w = u.to_contiguous();
                    Slices::F32 { u: whole(&w), alpha, source }
                }
                Weight::Q8 { words, scale: s, curvature: k } => {
                    (w, scale, curvature) = (words.to_contiguous(), s.to_contiguous(), k.to_contiguous());
                    Slices::Q8 { words: whole(&w), scale: whole(&scale), curvature: whole(&curvature) }
                }
                Weight::Grouped { layout, packed, scale: d, group_scale: s, selector: j, curvature: k } => {
                    (w, scale, curvature) = (packed.to_contiguous(), d.to_contiguous(), k.to_contiguous());
                    (group_scale, selector) = (s.to_contiguous(), j.to_contiguous());
                    let parts = [whole(&w), whole(&group_scale), whole(&selector)];
                    Slices::Grouped { layout, parts, scale: whole(&scale), curvature: whole(&curvature) }
                }
            };
            floats(product(whole(&x), [m, cols], &slices))
        }

        fn qins_widen(words: IntTensor<Self>, bf16: bool, cols: usize) -> FloatTensor<Self> {
            floats(widened(whole(&words.to_contiguous()), bf16, cols))
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
            let (w, packed, group_scale, selector, scale, curvature);
            let slices = match weight {
                Weight::Dense(dense) => {
                    w = floats(dense);
                    Slices::Dense(whole(&w))
                }
                Weight::Half { words: halves, bf16 } => {
                    packed = words(halves);
                    Slices::Half { words: whole(&packed), bf16 }
                }
                Weight::F32 { u, alpha, source } => {
                    w = floats(u);
                    Slices::F32 { u: whole(&w), alpha, source }
                }
                Weight::Q8 { words: codes, scale: s, curvature: k } => {
                    (packed, scale, curvature) = (words(codes), floats(s), floats(k));
                    Slices::Q8 { words: whole(&packed), scale: whole(&scale), curvature: whole(&curvature) }
                }
                Weight::Grouped { layout, packed: codes, scale: d, group_scale: s, selector: j, curvature: k } => {
                    (packed, group_scale, selector) = (words(codes), words(s), words(j));
                    (scale, curvature) = (floats(d), floats(k));
                    let parts = [whole(&packed), whole(&group_scale), whole(&selector)];
                    Slices::Grouped { layout, parts, scale: whole(&scale), curvature: whole(&curvature) }
                }
            };
            tensor(product(whole(&x), [m, cols], &slices))
        }

        fn qins_widen(halves: IntTensor<Self>, bf16: bool, cols: usize) -> FloatTensor<Self> {
            tensor(widened(whole(&words(halves)), bf16, cols))
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
