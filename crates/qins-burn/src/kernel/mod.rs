//! Products of activations with weights in their stored form.
//!
//! Extensions of every backend: CPUs decode a tile of rows into cache and multiply it there, GPUs decode into registers or
//! shared memory.

#[cfg(feature = "autodiff")]
mod autodiff;
// The generated code is public, and names NdArray, which Burn has deprecated.
#[allow(deprecated, unreachable_pub)]
mod backend;
#[cfg(any(feature = "flex", feature = "ndarray"))]
#[allow(deprecated)]
mod cpu;
#[cfg(feature = "gpu")]
mod gpu;
mod matrix;

use burn::{
    backend::Dispatch,
    nn::RmsNorm,
    tensor::{
        DType, Int, Tensor, TensorData,
        activation::{gelu_approximate, silu},
    },
};

use qins_model::Activation;

use backend::QinsBackend;
#[cfg(feature = "gpu")]
pub(crate) use gpu::cache::Heads as GpuHeads;
#[cfg(feature = "gpu")]
pub use gpu::coded::{CodedHeads, Turns};
pub use matrix::{Matrix, Part};

/// `x[m, cols] · wᵀ`, of shape `[m, rows]`.
///
/// # Panics
/// When x does not have as many columns as the matrix.
pub fn linear(x: Tensor<2>, w: Matrix) -> Tensor<2> {
    let ([m, width], [rows, cols]) = (x.dims(), w.shape());
    assert_eq!(width, cols, "expected x to have the {cols} columns of the matrix, found {width}");
    #[cfg(not(feature = "autodiff"))]
    assert!(!x.is_autodiff(), "expected no gradients through a projection without qins-burn's feature `autodiff`");
    if m * rows * cols == 0 {
        // Nothing to launch.
        return Tensor::zeros([m, rows], (&x.device(), x.dtype()));
    }
    Tensor::from_dispatch(Dispatch::qins_linear(x.into_dispatch(), w.into()))
}

/// [`linear`], in which a CPU may round weights and activations to 16 bits, for many rows of `x`: see [`qins_quant::kernel::linear_rounded`].
pub(crate) fn linear_rounded(x: Tensor<2>, w: Matrix) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::qins_linear_rounded(x.into_dispatch(), w.into()))
}

/// Rows of the weights, decoded: `[ids.len(), cols]`.
///
/// # Panics
/// When a row does not exist.
pub fn rows(w: Matrix, ids: &[u32]) -> Tensor<2> {
    let [rows, cols] = w.shape();
    assert!(ids.iter().all(|&id| (id as usize) < rows), "rows: the matrix has {rows}");
    if ids.len() * cols == 0 {
        return Tensor::zeros([ids.len(), cols], &w.device());
    }
    let data = TensorData::new(ids.to_vec(), [ids.len()]);
    let ids = Tensor::<1, Int>::from_data(data, (&w.device(), DType::U32));
    Tensor::from_dispatch(Dispatch::qins_rows(ids.into_dispatch(), w.into()))
}

/// `x[n, heads·dim]` as `[heads, n, dim]`, with half-split rotation of the first 2·pairs elements of each head by cos and
/// sin `[1, n, pairs]`.
pub(crate) fn rotate(x: Tensor<2>, cos: Tensor<3>, sin: Tensor<3>, heads: usize) -> Tensor<3> {
    let [x, cos, sin] = [x.into_dispatch(), cos.into_dispatch(), sin.into_dispatch()];
    Tensor::from_dispatch(Dispatch::qins_rotate(x, cos, sin, heads))
}

/// RMSNorm of each row of `x[n, width]`.
pub(crate) fn norm(norm: &RmsNorm, x: Tensor<2>) -> Tensor<2> {
    let (x, gamma) = (x.into_dispatch(), norm.gamma.val().into_dispatch());
    Tensor::from_dispatch(Dispatch::qins_norm(x, gamma, norm.epsilon as f32))
}

/// activation(gate)·up.
pub(crate) fn gated(gate: Tensor<2>, up: Tensor<2>, activation: Activation) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::qins_gated(gate.into_dispatch(), up.into_dispatch(), activation))
}

/// activation(x), for each element.
pub(crate) fn activate(x: Tensor<2>, activation: Activation) -> Tensor<2> {
    match activation {
        Activation::Silu => silu(x),
        Activation::GeluTanh => gelu_approximate(x),
    }
}

/// Rounded to bf16, on any backend.
pub(crate) fn bf16<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::qins_bf16(x.into_dispatch()))
}

/// Whether a device uses the CPU kernels.
pub(crate) fn on_cpu(device: &burn::tensor::Device) -> bool {
    match device.as_dispatch() {
        #[cfg(feature = "flex")]
        burn::backend::DispatchDevice::Flex(_) => true,
        #[cfg(feature = "ndarray")]
        burn::backend::DispatchDevice::NdArray(_) => true,
        #[allow(unreachable_patterns)]
        _ => false,
    }
}
