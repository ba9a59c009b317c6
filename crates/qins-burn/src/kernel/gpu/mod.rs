//! The operations on GPUs: kernels that decode into registers and shared memory.
#![allow(unsafe_code)] // Kernels are launched without checks of bounds, which they keep themselves.

mod attend;
#[allow(unreachable_pub)] // The generated code is public.
pub(crate) mod cache;
pub(crate) mod coded;
mod codes;
mod hadamard;
mod input;
mod kv;
mod matmul;
mod matrix;
mod matvec;
mod rows;
mod squares;

use burn::{
    backend::{
        TensorMetadata,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::{DType, Shape},
};
use burn_cubecl::{
    CubeBackend, cubecl::prelude::*, kernel::into_contiguous, ops::numeric::empty_device_contiguous_dtype,
    tensor::CubeTensor,
};
use qins_model::Activation;
use qins_quant::{CompandedFloat, FloatDtype};

use super::backend::{PartOf, QinsBackend, Weight};
use matrix::{Form, PartsLaunch};

impl QinsBackend for CubeBackend {
    fn qins_linear(x: FloatTensor<Self>, weight: Weight<Self>) -> FloatTensor<Self> {
        let x = into_contiguous(x);
        let shape = x.shape();
        let (m, cols) = (shape[0], shape[1]);
        let matrix = Matrix::new(weight);
        let y = empty(&x, [m, matrix.rows].into(), x.dtype);
        let (client, dtype) = (x.client.clone(), elem_type(x.dtype));
        let vector = if cols.is_multiple_of(32) { 4 } else { 1 };
        let (rows, form) = (matrix.rows, matrix.form);
        let [x, out] = [x, y.clone()].map(CubeTensor::into_buffer_arg);
        if m <= matvec::VECTORS {
            let cubes = spread(rows.div_ceil(matvec::ROWS));
            let units = CubeDim::new_1d(matvec::UNITS as u32);
            // Two kernels, instead of one per number of vectors.
            let room = if m == 1 { 1 } else { matvec::VECTORS };
            // SAFETY: the kernel reads no element beyond `rows` and `cols`, which `kernel::linear` has compared, by the tensors' own
            // strides; none of them is 0.
            unsafe {
                matvec::matvec::launch_unchecked(
                    &client,
                    cubes,
                    units,
                    vector,
                    x,
                    matrix.parts(),
                    out,
                    rows as u32,
                    cols as u32,
                    m as u32,
                    room,
                    form,
                    dtype,
                );
            }
        } else {
            let cubes = CubeCount::Static(rows.div_ceil(matmul::TILE) as u32, m.div_ceil(matmul::TILE) as u32, 1);
            let units = CubeDim::new_1d(matmul::UNITS as u32);
            // SAFETY: as above.
            unsafe {
                matmul::matmul::launch_unchecked(
                    &client,
                    cubes,
                    units,
                    vector,
                    x,
                    matrix.parts(),
                    out,
                    m as u32,
                    rows as u32,
                    cols as u32,
                    form,
                    dtype,
                );
            }
        }
        y
    }

    fn qins_rows(ids: IntTensor<Self>, weight: Weight<Self>) -> FloatTensor<Self> {
        let ids = into_contiguous(ids);
        let (n, cols) = (ids.shape()[0], weight.format.cols());
        let matrix = Matrix::new(weight);
        let y = empty(&ids, [n, cols].into(), DType::F32);
        let (client, dtype, form) = (ids.client.clone(), elem_type(ids.dtype), matrix.form);
        let units = CubeDim::new_1d(rows::UNITS as u32);
        let [ids, out] = [ids, y.clone()].map(CubeTensor::into_buffer_arg);
        // SAFETY: as above; ids are below the number of rows, as `kernel::rows` checks.
        unsafe {
            rows::rows::launch_unchecked(
                &client,
                spread(n),
                units,
                ids,
                matrix.parts(),
                out,
                n as u32,
                cols as u32,
                form,
                dtype,
            );
        }
        y
    }

    fn qins_rotate(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        heads: usize,
    ) -> FloatTensor<Self> {
        let [x, cos, sin] = [x, cos, sin].map(floats);
        let (shape, half) = (x.shape(), cos.shape()[2]);
        let (n, dim) = (shape[0], shape[1] / heads);
        let y = empty(&x, [heads, n, dim].into(), x.dtype);
        let (client, units) = (x.client.clone(), CubeDim::new_1d(input::UNITS));
        let cubes = spread((n * heads * dim).div_ceil(input::UNITS as usize));
        let [x, cos, sin, out] = [x, cos, sin, y.clone()].map(CubeTensor::into_buffer_arg);
        // SAFETY: one unit for each number of `y`, and none beyond; it reads two of `x` and one of either table.
        unsafe {
            input::rotate::launch_unchecked(
                &client,
                cubes,
                units,
                x,
                cos,
                sin,
                out,
                n as u32,
                heads as u32,
                dim as u32,
                half as u32,
            );
        }
        y
    }

    fn qins_norm(x: FloatTensor<Self>, gamma: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self> {
        let [x, gamma] = [x, gamma].map(floats);
        let (n, width) = (x.shape()[0], x.shape()[1]);
        let y = empty(&x, [n, width].into(), x.dtype);
        let (client, units) = (x.client.clone(), CubeDim::new_1d(input::NORM_UNITS as u32));
        let [x, gamma, out] = [x, gamma, y.clone()].map(CubeTensor::into_buffer_arg);
        // SAFETY: a cube reads and writes its row, of `width` numbers, if there is one.
        unsafe {
            input::norm::launch_unchecked(&client, spread(n), units, x, gamma, out, n as u32, width as u32, epsilon);
        }
        y
    }

    fn qins_gated(gate: FloatTensor<Self>, up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        let [gate, up] = [gate, up].map(floats);
        let n = gate.shape().num_elements();
        let y = empty(&gate, gate.shape(), gate.dtype);
        let (client, units) = (gate.client.clone(), CubeDim::new_1d(input::UNITS));
        let [gate, up, out] = [gate, up, y.clone()].map(CubeTensor::into_buffer_arg);
        // SAFETY: the kernel reads and writes `n` numbers, which is what all three have.
        unsafe {
            input::gated::launch_unchecked(
                &client,
                spread(n.div_ceil(input::UNITS as usize)),
                units,
                gate,
                up,
                out,
                n as u32,
                activation,
            );
        }
        y
    }

    fn qins_bf16(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let x = floats(x);
        let n = x.shape().num_elements();
        let y = empty(&x, x.shape(), x.dtype);
        let (client, units) = (x.client.clone(), CubeDim::new_1d(input::UNITS));
        let [x, out] = [x, y.clone()].map(CubeTensor::into_buffer_arg);
        // SAFETY: the kernel reads and writes `n` numbers, which is what both tensors have.
        unsafe {
            input::bf16::launch_unchecked(&client, spread(n.div_ceil(input::UNITS as usize)), units, x, out, n as u32)
        };
        y
    }
}

/// A matrix on the device.
struct Matrix {
    form: Form,
    rows: usize,
    words: CubeTensor,
    /// Scale, curvature, scales of groups, selectors; of those it has not, the words.
    others: [CubeTensor; 4],
}

impl Matrix {
    fn new(weight: Weight<CubeBackend>) -> Self {
        let (format, rows) = (weight.format, weight.rows);
        let part = |part: PartOf<CubeBackend>| match part {
            PartOf::Absent => None,
            PartOf::Words(part) | PartOf::Floats(part) => Some(by_rows(part)),
        };
        let parts: Vec<CubeTensor> = weight.into_parts().into_iter().filter_map(part).collect();
        // In the format's order.
        let (form, [scale, curvature, group_scale, selector]) = match format.form() {
            qins_quant::Form::Plain => match format.source() {
                FloatDtype::F32 => (Form::Float, [0; 4]),
                FloatDtype::F16 => (Form::Half { bf16: false }, [0; 4]),
                FloatDtype::Bf16 => (Form::Half { bf16: true }, [0; 4]),
            },
            qins_quant::Form::CompandedFloat(CompandedFloat { alpha }) => {
                let spare = match format.source() {
                    FloatDtype::F32 => 0,
                    FloatDtype::F16 => 13,
                    FloatDtype::Bf16 => 16,
                };
                (Form::Companded { alpha: alpha.get().to_bits(), spare }, [0; 4])
            }
            qins_quant::Form::CompandedRow => (Form::Q8, [1, 2, 0, 0]),
            qins_quant::Form::Grouped(layout) => (Form::Grouped { width: layout.width() }, [1, 4, 2, 3]),
            qins_quant::Form::Lossless | qins_quant::Form::Rate => {
                unreachable!("kernel::Matrix holds no form of files alone")
            }
        };
        let others = [scale, curvature, group_scale, selector].map(|i| parts[i].clone());
        Self { form, rows, words: parts[0].clone(), others }
    }

    fn parts(self) -> PartsLaunch {
        let stride = |tensor: &CubeTensor| tensor.meta.strides()[0] as u32;
        let [scale, curvature, group_scale, selector] = self.others;
        let strides =
            [stride(&self.words), stride(&scale), stride(&curvature), stride(&group_scale), stride(&selector)];
        PartsLaunch::new(
            self.words.into_buffer_arg(),
            scale.into_buffer_arg(),
            curvature.into_buffer_arg(),
            group_scale.into_buffer_arg(),
            selector.into_buffer_arg(),
            strides[0],
            strides[1],
            strides[2],
            strides[3],
            strides[4],
        )
    }
}

/// A tensor whose rows are contiguous, with any stride, as some devices align rows.
fn by_rows(tensor: CubeTensor) -> CubeTensor {
    if tensor.meta.strides().last() == Some(&1) { tensor } else { into_contiguous(tensor) }
}

/// The input of `f32` kernels: contiguous, and of that type.
fn floats(tensor: CubeTensor) -> CubeTensor {
    assert_eq!(tensor.dtype, DType::F32, "the model computes in f32");
    into_contiguous(tensor)
}

fn empty(like: &CubeTensor, shape: Shape, dtype: DType) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape, dtype)
}

fn elem_type(dtype: DType) -> ElemType {
    burn::backend::cubecl::dtype_to_storage_type(dtype)
}

/// At least this many cubes, in two dimensions, as one dimension has at most 65,535.
fn spread(cubes: usize) -> CubeCount {
    let across = cubes.clamp(1, 32_768);
    CubeCount::Static(across as u32, cubes.div_ceil(across) as u32, 1)
}
