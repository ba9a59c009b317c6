//! The parts a matrix rests in: which, of what type and shape, and their bytes.

use half::f16;
use qins_codec::Alpha;
use safetensors::Dtype;

use crate::{Codes, FloatDtype, Form, Grouped, Layout, Scheme, Words, dtype::chunks};

/// One of the tensors a matrix rests in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    /// `packed` of `<module>.weight_packed`.
    pub(crate) suffix: &'static str,
    pub(crate) dtype: Dtype,
    /// The first dimension is the matrix's rows, unless the part is the whole matrix's.
    pub(crate) shape: Vec<usize>,
    /// Whether each row has a share of it; only such a part can be entropy-coded.
    pub(crate) by_rows: bool,
}

impl Part {
    /// Bytes of one number.
    pub(crate) fn size(&self) -> usize {
        self.dtype.bitsize() / 8
    }

    /// Numbers of one row.
    pub(crate) fn width(&self) -> usize {
        self.shape.get(1).copied().unwrap_or(1)
    }

    /// All its bytes; an overflow stays larger than any file.
    pub(crate) fn bytes(&self) -> usize {
        self.shape.iter().fold(self.size(), |bytes, n| bytes.saturating_mul(*n))
    }
}

impl Scheme {
    /// The parts in which a `[rows, cols]` matrix from a checkpoint of type `source` rests, in the order of
    /// [`Codes::stored`].
    pub(crate) fn parts(self, source: FloatDtype, [rows, cols]: [usize; 2]) -> Vec<Part> {
        let of_rows = |suffix, dtype, width: Option<usize>| Part {
            suffix,
            dtype,
            shape: [rows].into_iter().chain(width).collect(),
            by_rows: true,
        };
        let of_matrix = |suffix, dtype, n| Part { suffix, dtype, shape: vec![n], by_rows: false };
        match self.form() {
            Form::F32 => vec![of_rows("packed", Dtype::F32, Some(cols))],
            Form::Lossless => {
                let mut parts = vec![of_rows("packed", Dtype::U16, Some(cols))];
                parts.extend((source == FloatDtype::F32).then(|| of_rows("low", Dtype::U16, Some(cols))));
                parts
            }
            Form::Q8 => vec![
                of_rows("packed", Dtype::U8, Some(cols)),
                of_rows("scale", Dtype::F16, None),
                of_rows("curvature", Dtype::F16, None),
            ],
            Form::Grouped(layout) => vec![
                of_rows("packed", Dtype::U8, Some(layout.packed(cols))),
                of_rows("scale", Dtype::F16, Some(layout.scales(cols))),
                of_rows("group_scale", Dtype::I8, Some(layout.group_scales(cols))),
                of_rows("selector", Dtype::U8, Some(layout.selectors(cols))),
                of_matrix("curvature", Dtype::F16, Layout::CURVES),
            ],
            Form::Rate => vec![of_rows("packed", Dtype::I32, Some(cols)), of_matrix("step", Dtype::F32, 1)],
        }
    }
}

impl Codes {
    /// The bytes of each part.
    pub(crate) fn stored(&self) -> Vec<Vec<u8>> {
        let f16 = |values: &[f32]| values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
        match self {
            Self::F32 { u, .. } => vec![u.iter().flat_map(|u| u.to_le_bytes()).collect()],
            Self::Lossless(Words { high, low }) if low.is_empty() => vec![high.clone()],
            Self::Lossless(Words { high, low }) => vec![high.clone(), low.clone()],
            Self::Q8 { codes, scale, curvature } => vec![codes.clone(), f16(scale), f16(curvature)],
            Self::Grouped(Grouped { packed, scale, group_scale, selector, curvature, .. }) => {
                vec![packed.clone(), f16(scale), group_scale.clone(), selector.clone(), f16(curvature)]
            }
            Self::Rate { codes, step } => {
                vec![codes.iter().flat_map(|q| q.to_le_bytes()).collect(), step.to_le_bytes().to_vec()]
            }
        }
    }

    /// Codes from the bytes of each part; one that lacks is empty. Nothing is checked here.
    pub(crate) fn from_stored(scheme: Scheme, alpha: Alpha, parts: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut parts = parts.into_iter();
        let mut bytes = || parts.next().unwrap_or_default();
        let f16 = |bytes: Vec<u8>| chunks(&bytes).map(|b| f16::from_le_bytes(b).to_f32()).collect();
        match scheme.form() {
            Form::F32 => Self::F32 { u: FloatDtype::F32.widen(&bytes()), alpha },
            Form::Lossless => Self::Lossless(Words { high: bytes(), low: bytes() }),
            Form::Q8 => Self::Q8 { codes: bytes(), scale: f16(bytes()), curvature: f16(bytes()) },
            Form::Grouped(layout) => Self::Grouped(Grouped {
                layout,
                packed: bytes(),
                scale: f16(bytes()),
                group_scale: bytes(),
                selector: bytes(),
                curvature: f16(bytes()),
            }),
            Form::Rate => Self::Rate {
                codes: chunks(&bytes()).map(i32::from_le_bytes).collect(),
                step: chunks(&bytes()).map(f32::from_le_bytes).next().unwrap_or(f32::NAN),
            },
        }
    }
}
