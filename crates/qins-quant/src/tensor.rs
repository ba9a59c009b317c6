//! One encoded matrix in memory.

use std::ops::Range;

use rayon::prelude::*;

use crate::{
    EncodeError, FloatDtype, MatmulError, Scheme, entropy,
    forms::{self, MatrixFormat, Weights},
    kernel::{self, Rows},
};

/// Bytes of a matrix's shape in a file.
const SHAPE_BYTES: usize = 16;

/// An encoded `[rows, cols]` matrix of weights, row-major.
///
/// ```
/// use qins_quant::{EncodedTensor, Scheme};
///
/// let weights: Vec<f32> = (0..4 * 64).map(|i| (i as f32 * 0.7).sin() / 50.0).collect();
/// let w = EncodedTensor::encode(&weights, [4, 64], Scheme::Q4)?;
///
/// // y[m, rows] = x[m, cols] · wᵀ, with the weights decoded on the way.
/// let (x, mut y) = ([0.5; 2 * 64], [0.0; 2 * 4]);
/// w.matmul(&x, &mut y)?;
///
/// let dir = tempfile::tempdir()?;
/// w.save(dir.path().join("w.safetensors"))?;
/// assert_eq!(EncodedTensor::load(dir.path().join("w.safetensors"))?, w);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedTensor {
    scheme: Scheme,
    format: MatrixFormat,
    rows: usize,
    /// In the format's order.
    parts: Vec<Vec<u32>>,
}

impl EncodedTensor {
    /// Makes a matrix of `rows` rows from its parts.
    ///
    /// # Errors
    /// When the format is that of plain weights, a part is missing or of the wrong length, a scale or curvature is not a
    /// finite number ≥ 0, or a weight would not decode to a finite number ([`Scheme::Lossless`] may contain NaN and ±∞).
    pub fn from_parts(format: MatrixFormat, rows: usize, parts: Vec<Vec<u32>>) -> Result<Self, EncodeError> {
        let scheme = format.scheme().ok_or(EncodeError::Plain)?;
        let expected = format.parts();
        if parts.len() != expected.len() {
            return Err(EncodeError::Parts { scheme, expected: expected.len(), found: parts.len() });
        }
        for (part, words) in expected.iter().zip(&parts) {
            let [lines, n] = part.memory_shape(rows);
            if lines.checked_mul(n) != Some(words.len()) {
                return Err(EncodeError::Part { name: part.name, expected: [lines, n], found: words.len() });
            }
        }
        format.form().stored().check(&format, &slices(&parts))?;
        Ok(Self { scheme, format, rows, parts })
    }

    /// Puts rows of the same matrix after these.
    pub(crate) fn append(&mut self, Self { rows, parts, .. }: Self) {
        for ((spec, words), more) in self.format.parts().iter().zip(&mut self.parts).zip(parts) {
            // Other parts are those of the whole matrix.
            if spec.by_rows() {
                words.extend(more);
            }
        }
        self.rows += rows;
    }

    /// `[rows, cols]`.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.format.cols()]
    }

    /// The type of the weights before encoding.
    pub fn source(&self) -> FloatDtype {
        self.format.source()
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The format of the parts.
    pub fn format(&self) -> MatrixFormat {
        self.format
    }

    /// The parts, in the order of the [`format`](Self::format).
    pub fn parts(&self) -> &[Vec<u32>] {
        &self.parts
    }

    /// The part of this name, if there is one.
    pub fn part(&self, name: &str) -> Option<&[u32]> {
        let i = self.format.parts().iter().position(|part| part.name == name)?;
        self.parts.get(i).map(Vec::as_slice)
    }

    /// The part of this name, as floats.
    pub fn floats(&self, name: &str) -> Option<&[f32]> {
        self.part(name).map(forms::floats)
    }

    /// The format and parts to keep in memory: unchanged, or plain weights if the scheme is storage-only.
    pub fn into_memory(self) -> (MatrixFormat, Vec<Vec<u32>>) {
        let plain = self.format.in_memory();
        if plain == self.format {
            return (self.format, self.parts);
        }
        let bytes = match plain.source() {
            dtype if dtype == self.source() => self.bytes_of_rows(0..self.rows),
            dtype => dtype.narrow(&self.decode()),
        };
        (plain, plain.read([bytes]))
    }

    /// Bytes of all parts, without the padding of rows in memory.
    pub fn bytes(&self) -> usize {
        self.format.parts().iter().fold(0, |sum, part| sum.saturating_add(part.bytes(self.rows)))
    }

    /// Bytes in a file, the shape and all parameters included; if `coded`, parts are entropy-coded to find their size.
    ///
    /// # Errors
    /// When a block is too large for the entropy coder.
    pub fn file_bytes(&self, coded: bool) -> Result<usize, EncodeError> {
        if !coded {
            return Ok(SHAPE_BYTES + self.bytes());
        }
        self.format.parts().iter().zip(&self.parts).try_fold(SHAPE_BYTES, |sum, (part, words)| {
            if !part.by_rows() {
                return Ok(sum + part.bytes(self.rows));
            }
            Ok(sum + entropy::code(&part.bytes_of(words), part.element, part.width())?.bytes())
        })
    }

    /// The rows, as the input of kernels.
    pub fn rows(&self) -> Rows<'_> {
        Rows::new(&self.format, &slices(&self.parts))
    }

    /// `y[m, rows] = x[m, cols] · wᵀ`, both row-major; see [`kernel::linear`].
    ///
    /// # Errors
    /// When `x` is not a whole number of rows, or `y` does not have the length of the product.
    pub fn matmul(&self, x: &[f32], y: &mut [f32]) -> Result<(), MatmulError> {
        let [rows, cols] = self.shape();
        // Without columns the length of x does not give m: then that of y does.
        let m = x.len().checked_div(cols).unwrap_or(y.len().checked_div(rows).unwrap_or(0));
        if x.len() != m * cols {
            return Err(MatmulError::Input { cols, found: x.len() });
        }
        if y.len() != m * rows {
            return Err(MatmulError::Output { expected: [m, rows], found: y.len() });
        }
        kernel::linear(self.rows(), [rows, cols], x, y);
        Ok(())
    }

    /// Every weight decoded, row-major.
    pub fn decode(&self) -> Vec<f32> {
        let mut weights = vec![0.0; self.rows * self.format.cols()];
        self.decode_into(&mut weights);
        weights
    }

    /// Decodes every weight into `out`, row-major.
    ///
    /// # Panics
    /// When `out` does not have `rows·cols` elements.
    pub fn decode_into(&self, out: &mut [f32]) {
        self.decode_rows(0..self.rows, out);
    }

    /// Decodes some rows into `out`, row-major.
    ///
    /// # Panics
    /// When a row lies outside the matrix, or `out` does not have one element for each weight.
    pub fn decode_rows(&self, rows: Range<usize>, out: &mut [f32]) {
        let cols = self.format.cols();
        assert_eq!(out.len(), rows.len() * cols, "decode_rows: wrong length of the output");
        if cols > 0 {
            let all = self.rows();
            out.par_chunks_mut(cols).zip(rows).for_each(|(out, row)| all.decode_row(row, out));
        }
    }

    /// Some rows as little-endian bytes of the source's type. For [`Scheme::Lossless`] they are the source's bytes.
    ///
    /// # Panics
    /// When a row lies outside the matrix.
    pub fn bytes_of_rows(&self, rows: Range<usize>) -> Vec<u8> {
        // Without columns there may be any number of rows, more than could be walked.
        if self.format.cols() == 0 {
            return Vec::new();
        }
        if let Some(bytes) = self.format.form().stored().source_bytes(&self.format, &slices(&self.parts), rows.clone())
        {
            return bytes;
        }
        let mut weights = vec![0.0; rows.len() * self.format.cols()];
        self.decode_rows(rows, &mut weights);
        self.source().narrow(&weights)
    }

    /// Encodes weights; the result needs no validation.
    pub(crate) fn encoded(scheme: Scheme, format: MatrixFormat, weights: &Weights<'_>) -> Result<Self, EncodeError> {
        let parts = format.form().stored().encode(&format, weights)?;
        Ok(Self { scheme, format, rows: weights.shape[0], parts })
    }
}

fn slices(parts: &[Vec<u32>]) -> Vec<&[u32]> {
    parts.iter().map(Vec::as_slice).collect()
}
