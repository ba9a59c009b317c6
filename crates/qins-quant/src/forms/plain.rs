//! Plain weights, in the type of the source.

use super::{Element, EncodeOptions, Extent, MatrixFormat, PartSpec, StoredForm, Weights};
use crate::{EncodeError, FloatDtype, range::ScaleRange};

pub(super) struct Plain;

impl StoredForm for Plain {
    fn parts(&self, source: FloatDtype, cols: usize) -> Vec<PartSpec> {
        let element = match source {
            FloatDtype::F32 => Element::F32,
            // Two per word.
            FloatDtype::F16 | FloatDtype::Bf16 => Element::U16,
        };
        vec![PartSpec::new("weight", element, Extent::Rows(cols))]
    }

    fn encode(&self, format: &MatrixFormat, weights: &Weights<'_>) -> Result<Vec<Vec<u32>>, EncodeError> {
        Ok(format.read([format.source().narrow(weights.values)]))
    }

    fn scale_range(&self, _: usize, _: &EncodeOptions) -> Option<ScaleRange> {
        None
    }

    fn check(&self, _: &MatrixFormat, _: &[&[u32]]) -> Result<(), EncodeError> {
        Ok(())
    }
}
