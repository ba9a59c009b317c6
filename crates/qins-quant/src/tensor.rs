//! One encoded matrix in memory.

use std::ops::Range;

use half::f16;
use qins_codec::{Alpha, Curvature};
use rayon::prelude::*;

use crate::{
    EncodeError, EncodeOptions, FloatDtype, Form, Grouped, Layout, Prune, Recipe, Scheme, entropy, grouped,
    kernel::Rows, lossless::Words, q8, rate, sample,
};

/// What a file spends on the shape of a matrix.
const SHAPE_BYTES: usize = 16;

/// A `[rows, cols]` matrix of weights at rest, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedTensor {
    shape: [usize; 2],
    source: FloatDtype,
    codes: Codes,
}

/// The stored form of a matrix, by scheme.
#[derive(Clone, Debug, PartialEq)]
pub enum Codes {
    /// [`Scheme::F32`]: `rows·cols` values in the complement form, and the α they share.
    F32 {
        /// The companded values u ∈ [−1, 1].
        u: Vec<f32>,
        /// The α of u = α|x|/(1+α|x|).
        alpha: Alpha,
    },
    /// [`Scheme::Q8`]: `rows·cols` codes, and per row a scale and a curvature.
    Q8 {
        /// Sign in bit 7, companded magnitude in bits 0–6.
        codes: Vec<u8>,
        /// The scale of each row, exactly representable in `f16`.
        scale: Vec<f32>,
        /// The curvature of each row, exactly representable in `f16`.
        curvature: Vec<f32>,
    },
    /// The grouped schemes.
    Grouped(Grouped),
    /// [`Scheme::Lossless`]: `rows·cols` words of the source's type.
    Lossless(Words),
    /// [`Scheme::Rate`]: `rows·cols` whole numbers, and the step they count.
    Rate {
        /// Each of magnitude 2²⁴ at most.
        codes: Vec<i32>,
        /// The weight that 1 stands for.
        step: f32,
    },
}

impl EncodedTensor {
    /// Encodes `weights`, a row-major `shape` matrix whose values came from a checkpoint of type `source`.
    ///
    /// # Errors
    /// When the length does not match the shape, a weight is NaN or infinite, or too large for the scheme.
    pub fn encode(
        weights: &[f32],
        shape: [usize; 2],
        source: FloatDtype,
        scheme: Scheme,
        options: &EncodeOptions,
    ) -> Result<Self, EncodeError> {
        Self::encode_as(weights, shape, source, &Recipe { options: *options, ..scheme.into() })
    }

    /// As [`encode`](Self::encode), by a recipe. Where it has an importance, the squared errors of each column count so
    /// many times: the mean square of a column's inputs makes it the error of the product that is kept small.
    /// `f32`, `lossless` and `rate` have no use for it, but for what is pruned.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), and when the importance is not one finite number ≥ 0 for each column.
    pub fn encode_as(
        weights: &[f32],
        shape: [usize; 2],
        source: FloatDtype,
        recipe: &Recipe,
    ) -> Result<Self, EncodeError> {
        let [rows, cols] = shape;
        let Recipe { scheme, options, importance, .. } = recipe;
        let importance = importance.as_deref();
        if rows.checked_mul(cols) != Some(weights.len()) {
            return Err(EncodeError::Length { expected: shape, found: weights.len() });
        }
        if let Some(index) = weights.par_iter().position_first(|w| !w.is_finite()) {
            return Err(EncodeError::NonFinite { row: index / cols, col: index % cols, value: weights[index] });
        }
        if let Some(importance) = importance {
            if importance.len() != cols {
                return Err(EncodeError::Length { expected: [1, cols], found: importance.len() });
            }
            if let Some(col) = importance.iter().position(|w| !(0.0..=f32::MAX).contains(w)) {
                return Err(EncodeError::Importance { col, value: importance[col] });
            }
        }
        let mut pruned = Vec::new();
        let weights = if options.prune == Prune::NONE {
            weights
        } else {
            pruned.extend_from_slice(weights);
            pruned.par_chunks_mut(cols.max(1)).for_each(|row| options.prune.row(row, importance));
            &pruned
        };
        let codes = match scheme.form() {
            Form::Lossless if options.prune != Prune::NONE => return Err(EncodeError::Prune(*scheme)),
            Form::Grouped(_) | Form::Lossless | Form::Rate if options.alpha.is_some() => {
                return Err(EncodeError::Alpha(*scheme));
            }
            Form::Grouped(layout) => {
                let curves = options.curves.unwrap_or_else(|| {
                    grouped::choose(&rows_of(weights, shape, grouped::SAMPLE), cols, layout, importance)
                });
                Codes::Grouped(grouped::encode(weights, shape, layout, curves, importance)?.0)
            }
            Form::Lossless => Codes::Lossless(Words::new(&source.narrow(weights), source)),
            Form::Rate => {
                let step = options.rate.step(&rows_of(weights, shape, rate::SAMPLE), cols)?;
                Codes::Rate { codes: rate::encode(weights, cols, step)?, step }
            }
            Form::F32 => {
                let alpha = options.alpha.unwrap_or(Alpha::ONE);
                let u: Vec<f32> = weights.par_iter().map(|&x| qins_codec::encode_u(x, alpha)).collect();
                if let Some(index) = endless(&u, alpha, source) {
                    return Err(EncodeError::Saturated { row: index / cols, col: index % cols, value: weights[index] });
                }
                Codes::F32 { u, alpha }
            }
            Form::Q8 => q8::encode(weights, shape, options.alpha, importance)?,
        };
        Ok(Self { shape, source, codes })
    }

    /// Encodes the `bytes` of a plain tensor, little-endian. Unlike the `f32` of
    /// [`encode_as`](Self::encode_as) they keep what a NaN carries, and [`Scheme::Lossless`] keeps it too.
    ///
    /// # Errors
    /// As [`encode_as`](Self::encode_as); but no weight is refused that is kept to the bit.
    pub fn encode_bytes(
        bytes: &[u8],
        shape: [usize; 2],
        source: FloatDtype,
        recipe: &Recipe,
    ) -> Result<Self, EncodeError> {
        if recipe.scheme != Scheme::Lossless {
            return Self::encode_as(&source.widen(bytes), shape, source, recipe);
        }
        // What is refused of the recipe is refused of no weights as well.
        Self::encode_as(&[], [0, shape[1]], source, recipe)?;
        Self::from_parts(shape, source, Codes::Lossless(Words::new(bytes, source)))
    }

    /// Puts a matrix together from its stored parts.
    ///
    /// # Errors
    /// When a part's length does not fit `shape`, a scale or curvature is not a finite number ≥ 0, or a weight would
    /// come back as none. ([`Scheme::Lossless`] gives back what it was given, NaN and ±∞ too.)
    pub fn from_parts(shape: [usize; 2], source: FloatDtype, codes: Codes) -> Result<Self, EncodeError> {
        let [rows, cols] = shape;
        let length = |expected: [usize; 2], found: usize| {
            if expected[0].checked_mul(expected[1]) == Some(found) {
                Ok(())
            } else {
                Err(EncodeError::Length { expected, found })
            }
        };
        let parameters = |name, values: &[f32], [rows, per_row]: [usize; 2], most: f32| {
            length([rows, per_row], values.len())?;
            match values.iter().position(|v| !(0.0..=most).contains(v)) {
                Some(i) => Err(EncodeError::Parameter { name, row: i / per_row, value: values[i] }),
                None => Ok(()),
            }
        };
        match &codes {
            Codes::F32 { u, alpha } => {
                length([rows, cols], u.len())?;
                if let Some(i) = endless(u, *alpha, source) {
                    return Err(EncodeError::Value { row: i / cols, col: i % cols, value: u[i] });
                }
            }
            Codes::Q8 { codes, scale, curvature } => {
                length([rows, cols], codes.len())?;
                parameters("scale", scale, [rows, 1], f32::MAX)?;
                parameters("curvature", curvature, [rows, 1], Curvature::MAX.get())?;
            }
            Codes::Grouped(Grouped { layout, packed, scale, group_scale, selector, curvature }) => {
                length([rows, layout.packed(cols)], packed.len())?;
                length([rows, layout.group_scales(cols)], group_scale.len())?;
                length([rows, layout.selectors(cols)], selector.len())?;
                // Times a scale of a group and a level, an f16 stays finite.
                parameters("scale", scale, [rows, layout.scales(cols)], f16::MAX.to_f32())?;
                parameters("curvature", curvature, [Layout::CURVES, 1], Curvature::MAX.get())?;
            }
            Codes::Lossless(Words { high, low }) => {
                length([rows, cols.saturating_mul(2)], high.len())?;
                length([rows, cols.saturating_mul(source.size() - 2)], low.len())?;
            }
            Codes::Rate { codes, step } => {
                length([rows, cols], codes.len())?;
                parameters("step", &[*step], [1, 1], f32::MAX / rate::LARGEST)?;
                if let Some(i) = codes.par_iter().position_first(|q| q.unsigned_abs() > rate::LARGEST as u32) {
                    return Err(EncodeError::Code { row: i / cols, col: i % cols, code: codes[i] });
                }
            }
        }
        Ok(Self { shape, source, codes })
    }

    /// `[rows, cols]`.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The type the weights had before they were encoded.
    pub fn source(&self) -> FloatDtype {
        self.source
    }

    /// The scheme of the codes.
    pub fn scheme(&self) -> Scheme {
        match &self.codes {
            Codes::F32 { .. } => Scheme::F32,
            Codes::Q8 { .. } => Scheme::Q8,
            Codes::Grouped(grouped) => grouped.layout.scheme(),
            Codes::Lossless(_) => Scheme::Lossless,
            Codes::Rate { .. } => Scheme::Rate,
        }
    }

    /// The stored parts.
    pub fn codes(&self) -> &Codes {
        &self.codes
    }

    /// Takes the matrix apart.
    pub fn into_codes(self) -> Codes {
        self.codes
    }

    /// Bytes in memory, all parameters included.
    pub fn bytes(&self) -> usize {
        self.scheme().parts(self.source, self.shape).iter().fold(0, |sum, part| sum.saturating_add(part.bytes()))
    }

    /// Bytes in a file, its shape and all parameters included; those of entropy-coded parts are found by coding them.
    ///
    /// # Errors
    /// When the coder gives up.
    pub fn file_bytes(&self, coded: bool) -> Result<usize, EncodeError> {
        let parts = self.scheme().parts(self.source, self.shape);
        if !coded {
            return Ok(SHAPE_BYTES + self.bytes());
        }
        parts.iter().zip(self.codes.stored()).try_fold(SHAPE_BYTES, |sum, (part, bytes)| {
            let coded = part.by_rows.then(|| entropy::code(&bytes, part.dtype, part.width())).transpose()?;
            Ok(sum + coded.map_or(bytes.len(), |coded| coded.bytes()))
        })
    }

    /// The rows as kernels read them.
    pub fn rows(&self) -> Rows<'_> {
        match &self.codes {
            Codes::F32 { u, alpha } => Rows::F32 { u, alpha: *alpha, source: self.source },
            Codes::Q8 { codes, scale, curvature } => Rows::Q8 { codes, stride: self.shape[1], scale, curvature },
            Codes::Grouped(grouped) => Rows::Grouped(grouped.rows()),
            Codes::Lossless(words) => Rows::Lossless { words, source: self.source },
            Codes::Rate { codes, step } => Rows::Rate { codes, step: *step },
        }
    }

    /// Every weight decoded, row-major.
    pub fn decode(&self) -> Vec<f32> {
        let mut weights = vec![0.0; self.shape[0] * self.shape[1]];
        self.decode_into(&mut weights);
        weights
    }

    /// Decodes every weight into `out`, row-major.
    ///
    /// # Panics
    /// When `out` does not have `rows·cols` elements.
    pub fn decode_into(&self, out: &mut [f32]) {
        self.decode_rows(0..self.shape[0], out);
    }

    /// Decodes some rows into `out`, row-major.
    ///
    /// # Panics
    /// When a row lies outside the matrix, or `out` does not have one element for each weight.
    pub fn decode_rows(&self, rows: Range<usize>, out: &mut [f32]) {
        let cols = self.shape[1];
        assert_eq!(out.len(), rows.len() * cols, "decode_rows: wrong length of the output");
        if cols > 0 {
            out.par_chunks_mut(cols).zip(rows).for_each(|(out, row)| self.rows().decode_row(row, out));
        }
    }

    /// Some rows as bytes of the type they came from, little-endian. Those of [`Scheme::Lossless`] are the source's own.
    ///
    /// # Panics
    /// When a row lies outside the matrix.
    pub fn bytes_of_rows(&self, rows: Range<usize>) -> Vec<u8> {
        let cols = self.shape[1];
        if let Codes::Lossless(words) = &self.codes {
            return words.bytes(rows.start * cols, rows.len() * cols, self.source);
        }
        let mut weights = vec![0.0; rows.len() * cols];
        self.decode_rows(rows, &mut weights);
        self.source.narrow(&weights)
    }
}

/// A sample of the rows.
fn rows_of(weights: &[f32], shape: [usize; 2], n: usize) -> Vec<f32> {
    sample::rows(shape, n).flat_map(|row| &weights[row * shape[1]..][..shape[1]]).copied().collect()
}

/// The first of `u` that gives back no finite number of type `source`.
fn endless(u: &[f32], alpha: Alpha, source: FloatDtype) -> Option<usize> {
    u.par_iter().position_first(|u| !source.round(qins_codec::decode_u(*u, alpha)).is_finite())
}
