//! The operations on Burn's CPU backends: a thin bridge to the kernels on slices.

use burn::backend::tensor::{FloatTensor, IntTensor};
use qins_model::Activation;
use qins_quant::{MatrixFormat, kernel};
use rayon::prelude::*;

use super::backend::{PartOf, QinsBackend, Weight};

/// [`kernel::linear`], or [`kernel::linear_rounded`].
type Multiply = fn(kernel::Rows<'_>, [usize; 2], &[f32], &mut [f32]);

/// `x[m, cols] · wᵀ`, of shape `[m, rows]`.
fn product(
    multiply: Multiply,
    x: &[f32],
    format: &MatrixFormat,
    rows: usize,
    parts: &[&[u32]],
) -> (Vec<f32>, [usize; 2]) {
    let m = x.len() / format.cols().max(1);
    let mut y = vec![0.0; m * rows];
    multiply(kernel::Rows::new(format, parts), [rows, format.cols()], x, &mut y);
    (y, [m, rows])
}

/// Some rows, decoded: `[n, cols]`.
fn decoded(ids: &[u32], format: &MatrixFormat, parts: &[&[u32]]) -> (Vec<f32>, [usize; 2]) {
    let (w, cols) = (kernel::Rows::new(format, parts), format.cols());
    let mut numbers = vec![0.0; ids.len() * cols];
    let rows = ids.par_iter().zip(numbers.par_chunks_mut(cols.max(1)));
    rows.for_each(|(&id, numbers)| w.decode_row(id as usize, numbers));
    (numbers, [ids.len(), cols])
}

/// RMSNorm of `x[n, gamma.len()]`.
fn normed(x: &[f32], gamma: &[f32], epsilon: f32) -> (Vec<f32>, [usize; 2]) {
    let mut y = vec![0.0; x.len()];
    kernel::norm(x, gamma, epsilon, &mut y);
    (y, [x.len() / gamma.len().max(1), gamma.len()])
}

/// `x[n, heads·dim]` as `[heads, n, dim]`, rotated.
fn rotated(x: &[f32], tables: [&[f32]; 2], [n, heads, dim]: [usize; 3]) -> (Vec<f32>, [usize; 3]) {
    let mut y = vec![0.0; x.len()];
    kernel::rotate(x, tables, [n, heads, dim], &mut y);
    (y, [heads, n, dim])
}

/// activation(gate)·up.
fn gated(mut gate: Vec<f32>, up: &[f32], activation: Activation) -> Vec<f32> {
    match activation {
        Activation::Silu => kernel::gate_silu(&mut gate, up),
        Activation::GeluTanh => kernel::gate_gelu(&mut gate, up),
    }
    gate
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
            linear(kernel::linear, x, weight)
        }

        fn qins_linear_rounded(x: FloatTensor<Self>, weight: Weight<Self>) -> FloatTensor<Self> {
            linear(kernel::linear_rounded, x, weight)
        }

        fn qins_rows(ids: IntTensor<Self>, weight: Weight<Self>) -> FloatTensor<Self> {
            let (ids, format) = (ids.to_contiguous(), weight.format);
            let parts = contiguous(weight);
            floats(decoded(whole(&ids), &format, &slices(&parts)))
        }

        fn qins_norm(x: FloatTensor<Self>, gamma: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self> {
            let [x, gamma] = [x, gamma].map(|x| x.to_contiguous());
            floats(normed(whole(&x), whole(&gamma), epsilon))
        }

        fn qins_rotate(
            x: FloatTensor<Self>,
            cos: FloatTensor<Self>,
            sin: FloatTensor<Self>,
            heads: usize,
        ) -> FloatTensor<Self> {
            let [x, cos, sin] = [x, cos, sin].map(|x| x.to_contiguous());
            let (n, width) = (x.layout().shape()[0], x.layout().shape()[1]);
            floats(rotated(whole(&x), [whole(&cos), whole(&sin)], [n, heads, width / heads]))
        }

        fn qins_gated(gate: FloatTensor<Self>, up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
            let [gate, up] = [gate, up].map(|x| x.to_contiguous());
            let shape = [gate.layout().shape()[0], gate.layout().shape()[1]];
            floats((gated(whole::<f32>(&gate).to_vec(), whole(&up), activation), shape))
        }
    }

    fn linear(multiply: Multiply, x: FlexTensor, weight: Weight<Flex>) -> FlexTensor {
        let (x, format, rows) = (x.to_contiguous(), weight.format, weight.rows);
        let parts = contiguous(weight);
        floats(product(multiply, whole(&x), &format, rows, &slices(&parts)))
    }

    fn contiguous(weight: Weight<Flex>) -> Vec<FlexTensor> {
        let part = |part: PartOf<Flex>| match part {
            PartOf::Absent => None,
            PartOf::Words(part) | PartOf::Floats(part) => Some(part.to_contiguous()),
        };
        weight.into_parts().into_iter().filter_map(part).collect()
    }

    fn slices(parts: &[FlexTensor]) -> Vec<&[u32]> {
        parts.iter().map(words).collect()
    }

    fn words(part: &FlexTensor) -> &[u32] {
        if part.dtype() == DType::F32 { bytemuck::cast_slice(whole::<f32>(part)) } else { whole(part) }
    }

    fn floats<const D: usize>((values, shape): (Vec<f32>, [usize; D])) -> FlexTensor {
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
            linear(kernel::linear, x, weight)
        }

        fn qins_linear_rounded(x: FloatTensor<Self>, weight: Weight<Self>) -> FloatTensor<Self> {
            linear(kernel::linear_rounded, x, weight)
        }

        fn qins_rows(ids: IntTensor<Self>, weight: Weight<Self>) -> FloatTensor<Self> {
            let (ids, format) = (words(ids), weight.format);
            let parts = row_major_parts(weight);
            tensor(decoded(whole(&ids), &format, &slices(&parts)))
        }

        fn qins_norm(x: FloatTensor<Self>, gamma: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self> {
            let [x, gamma] = [x, gamma].map(floats);
            tensor(normed(whole(&x), whole(&gamma), epsilon))
        }

        fn qins_rotate(
            x: FloatTensor<Self>,
            cos: FloatTensor<Self>,
            sin: FloatTensor<Self>,
            heads: usize,
        ) -> FloatTensor<Self> {
            let [x, cos, sin] = [x, cos, sin].map(floats);
            let (n, width) = (x.shape()[0], x.shape()[1]);
            tensor(rotated(whole(&x), [whole(&cos), whole(&sin)], [n, heads, width / heads]))
        }

        fn qins_gated(gate: FloatTensor<Self>, up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
            let [gate, up] = [gate, up].map(floats);
            let shape = [gate.shape()[0], gate.shape()[1]];
            tensor((gated(whole(&gate).to_vec(), whole(&up), activation), shape))
        }
    }

    fn linear(multiply: Multiply, x: NdArrayTensor, weight: Weight<NdArray>) -> NdArrayTensor {
        let (x, format, rows) = (floats(x), weight.format, weight.rows);
        let parts = row_major_parts(weight);
        tensor(product(multiply, whole(&x), &format, rows, &slices(&parts)))
    }

    enum Array {
        Words(SharedArray<u32>),
        Floats(SharedArray<f32>),
    }

    fn row_major_parts(weight: Weight<NdArray>) -> Vec<Array> {
        let part = |part: PartOf<NdArray>| match part {
            PartOf::Absent => None,
            PartOf::Words(part) => Some(Array::Words(words(part))),
            PartOf::Floats(part) => Some(Array::Floats(floats(part))),
        };
        weight.into_parts().into_iter().filter_map(part).collect()
    }

    fn slices(parts: &[Array]) -> Vec<&[u32]> {
        parts.iter().map(Array::slice).collect()
    }

    impl Array {
        fn slice(&self) -> &[u32] {
            match self {
                Self::Words(words) => whole(words),
                Self::Floats(floats) => bytemuck::cast_slice(whole(floats)),
            }
        }
    }

    fn tensor<const D: usize>((values, shape): (Vec<f32>, [usize; D])) -> NdArrayTensor {
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

    /// Shared, not copied, if it is row-major.
    fn row_major<E: Clone>(array: SharedArray<E>) -> SharedArray<E> {
        if array.is_standard_layout() { array } else { array.as_standard_layout().into_owned().into_shared() }
    }

    fn whole<E>(array: &SharedArray<E>) -> &[E] {
        array.as_slice().expect("row-major")
    }
}
