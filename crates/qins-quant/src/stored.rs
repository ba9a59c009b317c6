//! The tensors a matrix rests in: which, under what names, and their bytes.

use half::f16;
use qins_codec::Alpha;
use safetensors::Dtype;

use crate::{Codes, FloatDtype, Form, Grouped, Layout, Scheme, checkpoint::TensorSpec, dtype::chunks};

impl Scheme {
    /// The tensors in which a `[rows, cols]` matrix rests as `module`, in the order of [`Codes::stored`].
    pub(crate) fn tensors(self, module: &str, [rows, cols]: [usize; 2]) -> Vec<TensorSpec> {
        let tensor = |suffix: &str, dtype, shape: &[usize]| TensorSpec {
            name: format!("{module}.weight_{suffix}"),
            dtype,
            shape: shape.to_vec(),
        };
        match self.form() {
            Form::F32 => vec![tensor("packed", Dtype::F32, &[rows, cols])],
            Form::Q8 => vec![
                tensor("packed", Dtype::U8, &[rows, cols]),
                tensor("scale", Dtype::F16, &[rows]),
                tensor("curvature", Dtype::F16, &[rows]),
            ],
            Form::Grouped(layout) => vec![
                tensor("packed", Dtype::U8, &[rows, layout.packed(cols)]),
                tensor("scale", Dtype::F16, &[rows, layout.scales(cols)]),
                tensor("group_scale", Dtype::I8, &[rows, layout.group_scales(cols)]),
                tensor("selector", Dtype::U8, &[rows, layout.selectors(cols)]),
                tensor("curvature", Dtype::F16, &[Layout::CURVES]),
            ],
        }
    }

    /// Bytes at rest of a `[rows, cols]` matrix, parameters included.
    pub fn bytes(self, shape: [usize; 2]) -> usize {
        self.tensors("", shape).iter().fold(0, |sum, tensor| sum.saturating_add(tensor.bytes()))
    }
}

impl Codes {
    /// The bytes of each tensor.
    pub(crate) fn stored(&self) -> Vec<Vec<u8>> {
        let f16 = |values: &[f32]| values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
        match self {
            Self::F32 { u, .. } => vec![u.iter().flat_map(|u| u.to_le_bytes()).collect()],
            Self::Q8 { codes, scale, curvature } => vec![codes.clone(), f16(scale), f16(curvature)],
            Self::Grouped(Grouped { packed, scale, group_scale, selector, curvature, .. }) => {
                vec![packed.clone(), f16(scale), group_scale.clone(), selector.clone(), f16(curvature)]
            }
        }
    }

    /// Codes from the bytes of each tensor; one that lacks is empty. Nothing is checked here.
    pub(crate) fn from_stored<'a>(scheme: Scheme, alpha: Alpha, tensors: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut tensors = tensors.into_iter();
        let mut bytes = || tensors.next().unwrap_or_default();
        let f16 = |bytes: &[u8]| chunks(bytes).map(|b| f16::from_le_bytes(b).to_f32()).collect();
        match scheme.form() {
            Form::F32 => Self::F32 { u: FloatDtype::F32.widen(bytes()), alpha },
            Form::Q8 => Self::Q8 { codes: bytes().to_vec(), scale: f16(bytes()), curvature: f16(bytes()) },
            Form::Grouped(layout) => Self::Grouped(Grouped {
                layout,
                packed: bytes().to_vec(),
                scale: f16(bytes()),
                group_scale: bytes().to_vec(),
                selector: bytes().to_vec(),
                curvature: f16(bytes()),
            }),
        }
    }
}
