//! Weights into an encoded matrix.

use qins_codec::Alpha;
use rayon::prelude::*;

use crate::{
    EncodeError, EncodeOptions, EncodedTensor, FloatDtype, Prune, Recipe, Scheme,
    forms::{Form, MatrixFormat, StoredForm, Weights},
    sample,
};

impl EncodedTensor {
    /// Encodes `weights`, a row-major `[rows, cols]` matrix.
    ///
    /// # Errors
    /// When the length does not match the shape, a weight is NaN or infinite, or too large for the scheme.
    pub fn encode(weights: &[f32], shape: [usize; 2], scheme: Scheme) -> Result<Self, EncodeError> {
        Self::encode_as(weights, shape, FloatDtype::F32, &scheme.into())
    }

    /// As [`encode`](Self::encode), of weights that came from a checkpoint of type `source`, by a recipe. Where it has an
    /// importance, the squared errors of each column count so many times: the mean square of a column's inputs makes it the
    /// error of the product that is kept small. `companded-f32`, `lossless` and `rate` have no use for it, but for what is pruned.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), when the scheme has no use for an option, and when the importance is not one finite
    /// number ≥ 0 for each column.
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
            resolve(stored, &rows.copied().collect::<Vec<_>>(), cols, importance, &mut options)?;
        }
        let weights = Weights { values, shape, importance, options };
        Self::encoded(*scheme, MatrixFormat::new(form, source, cols), &weights)
    }

    /// Encodes the `bytes` of a plain tensor, little-endian. Unlike the `f32` of
    /// [`encode_as`](Self::encode_as) they keep what a NaN carries, and [`Scheme::Lossless`] keeps it too.
    ///
    /// # Errors
    /// As [`encode_as`](Self::encode_as); but no weight is refused that is kept to the bit.
    pub fn encode_bytes(
        bytes: &[u8],
        [rows, cols]: [usize; 2],
        source: FloatDtype,
        recipe: &Recipe,
    ) -> Result<Self, EncodeError> {
        let format = recipe.format(source, cols);
        match format.form().stored().encode_bytes(&format, bytes) {
            Some(parts) => {
                let found = bytes.len() / source.size();
                if rows.checked_mul(cols) != Some(found) || !bytes.len().is_multiple_of(source.size()) {
                    return Err(EncodeError::Length { expected: [rows, cols], found });
                }
                // What is refused of the recipe is refused of no weights as well.
                Self::encode_as(&[], [0, cols], source, recipe)?;
                Self::from_parts(format, rows, parts)
            }
            None => Self::encode_as(&source.widen(bytes), [rows, cols], source, recipe),
        }
    }
}

impl Recipe {
    fn form(&self) -> Form {
        Form::of(self.scheme, self.options.alpha.unwrap_or(Alpha::ONE))
    }

    /// How a matrix is stored that this makes of weights of type `source`.
    pub fn format(&self, source: FloatDtype, cols: usize) -> MatrixFormat {
        MatrixFormat::new(self.form(), source, cols)
    }

    /// Weights to look at before a matrix is encoded in bands, so that they have in common what is the whole matrix's.
    pub(crate) fn sample(&self) -> Option<usize> {
        self.form().stored().sample(&self.options)
    }

    /// The recipe for a matrix of which these are a [`sample`](Self::sample), with its step or curves decided.
    pub(crate) fn resolve(&self, mut sample: Vec<f32>, cols: usize) -> Result<Self, EncodeError> {
        // What is refused of the recipe is refused of no weights as well.
        EncodedTensor::encode_as(&[], [0, cols], FloatDtype::F32, self)?;
        let importance = self.importance.as_deref();
        sample.chunks_mut(cols.max(1)).for_each(|row| self.options.prune.row(row, importance));
        let mut options = self.options;
        resolve(self.form().stored(), &sample, cols, importance, &mut options)?;
        Ok(Self { options, ..self.clone() })
    }
}

fn resolve(
    form: &dyn StoredForm,
    sample: &[f32],
    cols: usize,
    importance: Option<&[f32]>,
    options: &mut EncodeOptions,
) -> Result<(), EncodeError> {
    let shape = [sample.len().checked_div(cols).unwrap_or(0), cols];
    form.resolve(&Weights { values: sample, shape, importance, options: *options }, options)
}
