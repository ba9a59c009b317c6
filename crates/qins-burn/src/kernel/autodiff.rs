//! Gradients. Encoded weights are frozen and pass gradients to their inputs; plain `f32` weights are ordinary parameters.

use burn::{
    backend::{
        Autodiff, TensorMetadata,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind, unary},
        },
        ops::FloatTensorOps,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::{DType, FloatDType, Slice, TensorData},
};
use qins_quant::{FloatDtype, Form, MatrixFormat};

use super::backend::{PartOf, QinsBackend, Weight};

/// Rows of weights decoded at a time.
const ROWS: usize = 1024;

impl<B: QinsBackend, C: CheckpointStrategy> QinsBackend for Autodiff<B, C> {
    fn qins_linear(x: FloatTensor<Self>, weight: Weight<Self>) -> FloatTensor<Self> {
        let weight = match parameter(weight) {
            Ok(plain) => return Self::float_matmul(x, Self::float_transpose(plain)),
            Err(frozen) => frozen,
        };
        let guard = x.node();
        let y = B::qins_linear(x.into_primitive(), weight.clone().into());
        match Linear.prepare::<C>([guard]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(weight, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn qins_rows(ids: IntTensor<Self>, weight: Weight<Self>) -> FloatTensor<Self> {
        match parameter(weight) {
            Ok(plain) => Self::float_select(plain, 0, ids),
            Err(frozen) => FloatTensor::<Self>::new(B::qins_rows(ids, frozen.into())),
        }
    }
}

/// Weights in words, which have no gradients.
#[derive(Clone, Debug)]
struct Frozen<B: burn::backend::Backend> {
    format: MatrixFormat,
    rows: usize,
    parts: Vec<IntTensor<B>>,
}

impl<B: burn::backend::Backend> From<Frozen<B>> for Weight<B> {
    fn from(Frozen { format, rows, parts }: Frozen<B>) -> Self {
        Self::new(format, rows, parts.into_iter().map(PartOf::Words))
    }
}

/// A plain `f32` tensor, or else the frozen weight.
fn parameter<B: QinsBackend, C: CheckpointStrategy>(
    weight: Weight<Autodiff<B, C>>,
) -> Result<FloatTensor<Autodiff<B, C>>, Frozen<B>> {
    let (format, rows, mut words) = (weight.format, weight.rows, Vec::new());
    for part in weight.into_parts() {
        match part {
            PartOf::Absent => {}
            PartOf::Words(part) => words.push(part),
            PartOf::Floats(part) => {
                debug_assert!(format.form() == Form::Plain && format.source() == FloatDtype::F32);
                return Ok(part);
            }
        }
    }
    Err(Frozen { format, rows, parts: words })
}

/// For y = x·Wᵀ, the gradient of x is the gradient of y times W.
#[derive(Debug)]
struct Linear;

impl<B: QinsBackend> Backward<B, 1> for Linear {
    type State = Frozen<B>;

    fn backward(self, ops: Ops<Frozen<B>, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        unary::<B, _>(ops.parents, ops.node, grads, |gradient| {
            let (weight, device, dtype) = (ops.state, gradient.device(), gradient.dtype());
            let tile = |first: usize| {
                let last = weight.rows.min(first + ROWS);
                let ids: Vec<u32> = (first as u32..last as u32).collect();
                let ids = B::int_from_data(TensorData::new(ids, [last - first]), &device);
                let mut decoded = B::qins_rows(ids, weight.clone().into());
                if dtype != DType::F32 {
                    decoded = B::float_cast(decoded, FloatDType::from(dtype));
                }
                B::float_matmul(B::float_slice(gradient.clone(), &[Slice::full(), (first..last).into()]), decoded)
            };
            let first = tile(0);
            (ROWS..weight.rows).step_by(ROWS).map(tile).fold(first, B::float_add)
        });
    }
}
