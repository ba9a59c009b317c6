//! Encoding weights.

use qins_codec::Alpha;
use rayon::prelude::*;

use crate::{
    EncodeError, EncodeOptions, EncodedTensor, Feedback, FloatDtype, Prune, Recipe, Scheme,
    first::first,
    fit::relative,
    forms::{Form, MatrixFormat, StoredForm, Weights},
    range::BelowRange,
    sample,
};

impl EncodedTensor {
    /// Encodes `weights`, a row-major `[rows, cols]` matrix.
    ///
    /// # Errors
    /// When the length does not match the shape, a weight is NaN, infinite or too large for the scheme, or the weights are too
    /// small for its scales.
    pub fn encode(weights: &[f32], shape: [usize; 2], scheme: Scheme) -> Result<Self, EncodeError> {
        Self::encode_as(weights, shape, FloatDtype::F32, &scheme.into())
    }

    /// As [`encode`](Self::encode), of weights from a checkpoint of type `source`, by a recipe. An importance weights the
    /// squared errors of each column: the mean square of the column's inputs minimises the error of the product.
    /// `companded-f32`, `lossless` and `rate` use it only for pruning.
    ///
    /// # Errors
    /// As [`encode`](Self::encode); also when the scheme does not take an option, and when the importance is not one finite
    /// number ≥ 0 for each column.
    pub fn encode_as(
        weights: &[f32],
        shape: [usize; 2],
        source: FloatDtype,
        recipe: &Recipe,
    ) -> Result<Self, EncodeError> {
        let (encoded, below) = Self::encode_part(weights, shape, source, recipe)?;
        below.check()?;
        Ok(encoded)
    }

    /// As [`encode_as`](Self::encode_as), of some rows of a matrix: whether too much of it is below the range of its scales is
    /// for the caller to check.
    fn encode_part(
        weights: &[f32],
        shape: [usize; 2],
        source: FloatDtype,
        recipe: &Recipe,
    ) -> Result<(Self, BelowRange), EncodeError> {
        let [rows, cols] = shape;
        let Recipe { scheme, options, importance, feedback, .. } = recipe;
        let feedback = feedback.as_deref().filter(|_| recipe.uses_feedback());
        let importance = importance.as_deref();
        if rows.checked_mul(cols) != Some(weights.len()) {
            return Err(EncodeError::Length { expected: shape, found: weights.len() });
        }
        expect_finite(weights, cols)?;
        if let Some(importance) = importance {
            if importance.len() != cols {
                return Err(EncodeError::Length { expected: [1, cols], found: importance.len() });
            }
            if let Some(col) = importance.iter().position(|w| !(0.0..=f32::MAX).contains(w)) {
                return Err(EncodeError::Importance { col, value: importance[col] });
            }
        }
        if let Some(feedback) = feedback.filter(|feedback| feedback.cols() != cols) {
            return Err(EncodeError::Length { expected: [1, cols], found: feedback.cols() });
        }
        let corrected = feedback.and_then(|feedback| feedback.corrected(weights));
        let weights = corrected.as_deref().unwrap_or(weights);
        if corrected.is_some() {
            // Moments that are hardly damped may make them overflow.
            expect_finite(weights, cols)?;
        }
        let importance = importance.map(relative);
        let importance = importance.as_deref();
        let form = recipe.form();
        let stored = form.stored();
        if options.alpha.is_some() && !stored.takes_alpha() {
            return Err(EncodeError::Alpha(*scheme));
        }
        let mut pruned = Vec::new();
        let values = if options.prune == Prune::NONE {
            weights
        } else {
            pruned.extend_from_slice(weights);
            pruned.par_chunks_mut(cols.max(1)).for_each(|row| options.prune.row(row, importance));
            &pruned
        };
        let mut options = *options;
        if let Some(n) = stored.sample(&options) {
            let rows = sample::rows(shape, n).flat_map(|row| &values[row * cols..][..cols]);
            resolve(stored, &rows.copied().collect::<Vec<_>>(), cols, (importance, feedback), &mut options)?;
        }
        let weights = Weights { values, shape, importance, feedback, options };
        let encoded = Self::encoded(*scheme, MatrixFormat::new(form, source, cols), &weights)?;
        let range = stored.scale_range(cols, &options);
        Ok((encoded, range.map_or_else(BelowRange::default, |range| BelowRange::of(range, values, cols))))
    }

    /// Encodes the little-endian `bytes` of a plain tensor. Unlike the `f32` of
    /// [`encode_as`](Self::encode_as) they keep NaN payloads, and so does [`Scheme::Lossless`].
    ///
    /// # Errors
    /// As [`encode_as`](Self::encode_as), except that schemes which keep every bit accept any weight.
    pub fn encode_bytes(
        bytes: &[u8],
        shape: [usize; 2],
        source: FloatDtype,
        recipe: &Recipe,
    ) -> Result<Self, EncodeError> {
        let (encoded, below) = Self::encode_band(bytes, shape, source, recipe)?;
        below.check()?;
        Ok(encoded)
    }

    /// As [`encode_bytes`](Self::encode_bytes), of some rows of a matrix; see [`encode_part`](Self::encode_part).
    pub(crate) fn encode_band(
        bytes: &[u8],
        [rows, cols]: [usize; 2],
        source: FloatDtype,
        recipe: &Recipe,
    ) -> Result<(Self, BelowRange), EncodeError> {
        let format = recipe.format(source, cols);
        match format.form().stored().encode_bytes(&format, bytes) {
            Some(parts) => {
                let found = bytes.len() / source.size();
                if rows.checked_mul(cols) != Some(found) || !bytes.len().is_multiple_of(source.size()) {
                    return Err(EncodeError::Length { expected: [rows, cols], found });
                }
                // An invalid recipe is rejected even without weights.
                Self::encode_as(&[], [0, cols], source, recipe)?;
                Ok((Self::from_parts(format, rows, parts)?, BelowRange::default()))
            }
            None => Self::encode_part(&source.widen(bytes), [rows, cols], source, recipe),
        }
    }
}

impl Recipe {
    fn form(&self) -> Form {
        Form::of(self.scheme, self.options.alpha.unwrap_or(Alpha::ONE))
    }

    /// The format of a matrix that this recipe makes of weights of type `source`.
    pub fn format(&self, source: FloatDtype, cols: usize) -> MatrixFormat {
        MatrixFormat::new(self.form(), source, cols)
    }

    /// The number of weights to sample before a matrix is encoded in bands, to resolve what all bands share.
    pub(crate) fn sample(&self) -> Option<usize> {
        self.form().stored().sample(&self.options)
    }

    /// The recipe with its step or curves resolved from a [`sample`](Self::sample) of the matrix.
    pub(crate) fn resolve(&self, mut sample: Vec<f32>, cols: usize) -> Result<Self, EncodeError> {
        // An invalid recipe is rejected even without weights.
        EncodedTensor::encode_as(&[], [0, cols], FloatDtype::F32, self)?;
        let importance = self.importance.as_deref().map(relative);
        let importance = importance.as_deref();
        sample.chunks_mut(cols.max(1)).for_each(|row| self.options.prune.row(row, importance));
        let mut options = self.options;
        let feedback = self.feedback.as_deref().filter(|_| self.uses_feedback());
        let sample = feedback.and_then(|feedback| feedback.corrected(&sample)).unwrap_or(sample);
        resolve(self.form().stored(), &sample, cols, (importance, feedback), &mut options)?;
        Ok(Self { options, ..self.clone() })
    }
}

fn expect_finite(weights: &[f32], cols: usize) -> Result<(), EncodeError> {
    match first(weights, |w| !w.is_finite()) {
        None => Ok(()),
        Some(i) => Err(EncodeError::NonFinite { row: i / cols, col: i % cols, value: weights[i] }),
    }
}

fn resolve(
    form: &dyn StoredForm,
    sample: &[f32],
    cols: usize,
    (importance, feedback): (Option<&[f32]>, Option<&Feedback>),
    options: &mut EncodeOptions,
) -> Result<(), EncodeError> {
    let shape = [sample.len().checked_div(cols).unwrap_or(0), cols];
    form.resolve(&Weights { values: sample, shape, importance, feedback, options: *options }, options)
}
