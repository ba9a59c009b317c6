//! The fixed-rate schemes of 3 to 8 bits, in which 32 weights share a scale and one of four curves.
//!
//! A weight is x = (d·s)·t. Here d is the `f16` scale of its super-block of 256 weights, and s the signed byte that scales its
//! group of 32. The level t is [`Curvature::level`](qins_codec::Curvature::level) of its code q in −2ᵇ⁻¹..2ᵇ⁻¹, under the curve
//! j of the group; for b ≤ 5 it is rounded to a multiple of 1/127. There is one more level below zero than above: the sign of s
//! is chosen so that the largest weight of the group is on that side.

mod curves;
mod encode;
mod fit;
mod layout;
mod planes;
mod refine;
mod rows;
mod sequential;
mod sweep;
mod width;

use half::f16;
use qins_codec::Curvature;

pub use curves::Curves;
pub use layout::Layout;
pub(crate) use planes::unpack;
pub use rows::GroupedRows;
pub(crate) use rows::RowParts;
pub use width::Width;
pub(crate) use width::with_bits;

use super::{Element, EncodeOptions, Extent, MatrixFormat, PartSpec, StoredForm, Weights, check_parameters};
use crate::{EncodeError, FloatDtype, range::ScaleRange};

impl StoredForm for Layout {
    fn parts(&self, _: FloatDtype, cols: usize) -> Vec<PartSpec> {
        vec![
            PartSpec::new("packed", Element::U8, Extent::Rows(self.packed(cols))),
            PartSpec::new("scale", Element::F16, Extent::Rows(self.scales(cols))),
            PartSpec::new("group_scale", Element::I8, Extent::Rows(self.group_scales(cols))),
            PartSpec::new("selector", Element::U8, Extent::Rows(self.selectors(cols))),
            PartSpec::new("curvature", Element::F16, Extent::Matrix(Self::CURVES)),
        ]
    }

    fn encode(&self, _: &MatrixFormat, weights: &Weights<'_>) -> Result<Vec<Vec<u32>>, EncodeError> {
        let curves = weights.options.curves.unwrap_or_else(|| curves::choose(weights, *self));
        Ok(encode::encode(weights, *self, curves)?.0)
    }

    fn check(&self, format: &MatrixFormat, parts: &[&[u32]]) -> Result<(), EncodeError> {
        // Times a scale of a group and a level, an f16 stays finite.
        check_parameters("scale", parts[1], self.scales(format.cols()), f16::MAX.to_f32())?;
        check_parameters("curvature", parts[4], 1, Curvature::MAX.get())
    }

    fn scale_range(&self, _: usize, _: &EncodeOptions) -> Option<ScaleRange> {
        // Where the scale of a super-block is the smallest f16, those of its groups must still have some values to choose from.
        Some(ScaleRange { span: Layout::SUPER * Layout::GROUP, least: 64.0 / 16_777_216.0 })
    }

    fn uses_importance(&self) -> bool {
        true
    }

    fn uses_feedback(&self) -> bool {
        true
    }

    fn sample(&self, options: &EncodeOptions) -> Option<usize> {
        options.curves.is_none().then_some(curves::SAMPLE)
    }

    fn resolve(&self, sample: &Weights<'_>, options: &mut EncodeOptions) -> Result<(), EncodeError> {
        // By the fit of each weight by itself.
        let Weights { values, shape, importance, options: given, .. } = *sample;
        let alone = Weights { values, shape, importance, feedback: None, options: given };
        options.curves = Some(curves::choose(&alone, *self));
        Ok(())
    }
}
