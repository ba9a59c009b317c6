//! The companded value u = sign(x)·α|x|/(1+α|x|) as `f32`, rounded to the source's type when decoded.

use qins_codec::Alpha;
use rayon::prelude::*;

use super::{Element, EncodeOptions, Extent, MatrixFormat, PartSpec, StoredForm, Weights, floats, words_of};
use crate::{EncodeError, FloatDtype, first::first, range::ScaleRange};

/// Companded values under a common α.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompandedFloat {
    /// The common α.
    pub alpha: Alpha,
}

impl StoredForm for CompandedFloat {
    fn parts(&self, _: FloatDtype, cols: usize) -> Vec<PartSpec> {
        vec![PartSpec::new("packed", Element::F32, Extent::Rows(cols))]
    }

    fn encode(&self, format: &MatrixFormat, weights: &Weights<'_>) -> Result<Vec<Vec<u32>>, EncodeError> {
        let u: Vec<f32> = weights.values.par_iter().map(|&x| qins_codec::encode_u(x, self.alpha)).collect();
        let place = |i: usize| (i / format.cols(), i % format.cols(), weights.values[i]);
        if let Some(i) = self.first_non_finite(&u, format.source()) {
            let (row, col, value) = place(i);
            return Err(EncodeError::Saturated { row, col, value });
        }
        // f32 resolves u near 1, and so |x| to one part in 2²⁵/(α|x|): less and less the larger a weight is.
        let decoded = |u: f32| format.source().round(qins_codec::decode_u(u, self.alpha));
        let differs = |(x, u): (&f32, &f32)| match format.source() {
            FloatDtype::F16 | FloatDtype::Bf16 => decoded(*u) != format.source().round(*x),
            FloatDtype::F32 => (decoded(*u) - x).abs() > x.abs() / 256.0,
        };
        if let Some(i) = weights.values.par_iter().zip(&u).position_first(differs) {
            let (row, col, value) = place(i);
            return Err(EncodeError::Inexact { row, col, value, decoded: decoded(u[i]) });
        }
        Ok(vec![words_of(u)])
    }

    fn scale_range(&self, _: usize, _: &EncodeOptions) -> Option<ScaleRange> {
        None
    }

    fn is_lossless(&self) -> bool {
        true
    }

    fn check(&self, format: &MatrixFormat, parts: &[&[u32]]) -> Result<(), EncodeError> {
        let u = floats(parts[0]);
        match self.first_non_finite(u, format.source()) {
            Some(i) => Err(EncodeError::Value { row: i / format.cols(), col: i % format.cols(), value: u[i] }),
            None => Ok(()),
        }
    }

    fn takes_alpha(&self) -> bool {
        true
    }
}

impl CompandedFloat {
    /// The index of the first value that does not decode to a finite number of type `source`.
    fn first_non_finite(&self, u: &[f32], source: FloatDtype) -> Option<usize> {
        first(u, |u| !source.round(qins_codec::decode_u(*u, self.alpha)).is_finite())
    }
}
