//! The forms in which a matrix is stored, one module each: its parts, their validation, and the encoder.
//!
//! To add one, write such a module and add it to [`Form`]; the compiler then reports every kernel that must handle it.

mod companded_float;
mod companded_row;
mod format;
pub(crate) mod grouped;
mod lossless;
mod options;
mod part;
mod plain;
mod rate;
mod words;

use std::ops::Range;

pub use companded_float::CompandedFloat;
use companded_row::CompandedRow;
pub use format::MatrixFormat;
pub(crate) use grouped::RowParts;
pub use grouped::{Curves, GroupedRows, Layout, Width};
pub(crate) use lossless::widen_row;
pub use options::EncodeOptions;
pub use part::{Element, Extent, PartSpec};
use plain::Plain;
pub use rate::Rate;

use words::words_of;
pub(crate) use words::{floats, stride, stride_of_halves};

use qins_codec::Alpha;

use crate::{EncodeError, Feedback, FloatDtype, Scheme, range::ScaleRange};

/// The construction of a stored matrix. Not `#[non_exhaustive]`: code that reads matrices must handle every form.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    /// Plain weights.
    Plain,
    /// Companded values as floats.
    CompandedFloat(CompandedFloat),
    /// One byte per weight, and a scale and a curvature per row.
    CompandedRow,
    /// Codes of 3 to 8 bits, in groups with a scale and one of four curves each.
    Grouped(Layout),
    /// The bits of the source, split and rotated for an entropy coder.
    Lossless,
    /// Integer multiples of one step.
    Rate,
}

/// A form's parts, validation and encoder.
pub(crate) trait StoredForm {
    /// The parts of a matrix of `cols` columns whose weights were of type `source`, in file order.
    fn parts(&self, source: FloatDtype, cols: usize) -> Vec<PartSpec>;

    /// Encodes finite weights, with [`resolve`](Self::resolve)d options.
    fn encode(&self, format: &MatrixFormat, weights: &Weights<'_>) -> Result<Vec<Vec<u32>>, EncodeError>;

    /// Checks the values of parts, whose lengths are correct.
    fn check(&self, format: &MatrixFormat, parts: &[&[u32]]) -> Result<(), EncodeError>;

    /// Whether bf16 weights round-trip exactly.
    fn is_lossless(&self) -> bool {
        false
    }

    /// Whether the encoder takes a fixed α.
    fn takes_alpha(&self) -> bool {
        false
    }

    /// Whether the encoder weights errors by the importance of columns.
    fn uses_importance(&self) -> bool {
        false
    }

    /// Whether the encoder feeds errors back, and so uses the second moments of inputs.
    fn uses_feedback(&self) -> bool {
        false
    }

    /// For storage-only forms, the type of the plain weights in memory; `None` if the form is kept in memory.
    fn plain_in_memory(&self, _source: FloatDtype) -> Option<FloatDtype> {
        None
    }

    /// The range of the scales of fitted weights, rows of `cols`; `None` if weights of any size are stored alike.
    fn scale_range(&self, cols: usize, options: &EncodeOptions) -> Option<ScaleRange>;

    /// The number of weights to sample to [`resolve`](Self::resolve) the options; `None` if there is nothing to resolve.
    fn sample(&self, _options: &EncodeOptions) -> Option<usize> {
        None
    }

    /// Resolves from such a sample the options that all rows share.
    fn resolve(&self, _sample: &Weights<'_>, _options: &mut EncodeOptions) -> Result<(), EncodeError> {
        Ok(())
    }

    /// The parts of a matrix from its source's bytes, if the form keeps every bit.
    fn encode_bytes(&self, _format: &MatrixFormat, _bytes: &[u8]) -> Option<Vec<Vec<u32>>> {
        None
    }

    /// The source's bytes of some rows, if the form keeps every bit.
    fn source_bytes(&self, _format: &MatrixFormat, _parts: &[&[u32]], _rows: Range<usize>) -> Option<Vec<u8>> {
        None
    }
}

/// Weights to encode.
pub(crate) struct Weights<'a> {
    /// Finite, row-major.
    pub(crate) values: &'a [f32],
    pub(crate) shape: [usize; 2],
    /// One number in (0, 1] per column, the weight of its squared errors.
    pub(crate) importance: Option<&'a [f32]>,
    /// Of as many columns; `None` for rounding each weight by itself.
    pub(crate) feedback: Option<&'a Feedback>,
    pub(crate) options: EncodeOptions,
}

impl Form {
    /// The form of a scheme; `alpha` is used by [`Scheme::CompandedF32`] only.
    pub(crate) const fn of(scheme: Scheme, alpha: Alpha) -> Self {
        let width = match scheme {
            Scheme::CompandedF32 => return Self::CompandedFloat(CompandedFloat { alpha }),
            Scheme::Lossless => return Self::Lossless,
            Scheme::Q8 => return Self::CompandedRow,
            Scheme::Rate => return Self::Rate,
            Scheme::Q8g => Width::W8,
            Scheme::Q6 => Width::W6,
            Scheme::Q5 => Width::W5,
            Scheme::Q4 => Width::W4,
            Scheme::Q3 => Width::W3,
        };
        Self::Grouped(Layout::new(width))
    }

    /// The scheme with this form; `None` for plain weights.
    pub const fn scheme(self) -> Option<Scheme> {
        Some(match self {
            Self::Plain => return None,
            Self::CompandedFloat(_) => Scheme::CompandedF32,
            Self::CompandedRow => Scheme::Q8,
            Self::Grouped(layout) => match layout.width() {
                Width::W3 => Scheme::Q3,
                Width::W4 => Scheme::Q4,
                Width::W5 => Scheme::Q5,
                Width::W6 => Scheme::Q6,
                Width::W8 => Scheme::Q8g,
            },
            Self::Lossless => Scheme::Lossless,
            Self::Rate => Scheme::Rate,
        })
    }

    /// The implementation of the form.
    pub(crate) fn stored(&self) -> &dyn StoredForm {
        match self {
            Self::Plain => &Plain,
            Self::CompandedFloat(form) => form,
            Self::CompandedRow => &CompandedRow,
            Self::Grouped(layout) => layout,
            Self::Lossless => &lossless::Lossless,
            Self::Rate => &rate::WholeNumbers,
        }
    }
}

impl Scheme {
    /// The form in which it is stored; for [`CompandedF32`](Self::CompandedF32), with α = 1.
    pub const fn form(self) -> Form {
        Form::of(self, Alpha::ONE)
    }

    /// Whether it is for files only and decoded to plain weights when loaded. Such a scheme is always
    /// entropy-coded; others are if the [`Recipe`](crate::Recipe) requests it.
    pub fn is_storage_only(self) -> bool {
        self.form().stored().plain_in_memory(FloatDtype::F32).is_some()
    }

    /// Whether the fit weights errors by importance; pruning does so with every scheme.
    pub fn uses_importance(self) -> bool {
        self.form().stored().uses_importance()
    }

    /// Whether the fit uses [`Feedback`], which takes the place of importance.
    pub fn uses_feedback(self) -> bool {
        self.form().stored().uses_feedback()
    }

    /// Whether bf16 weights round-trip exactly.
    pub fn is_lossless(self) -> bool {
        self.form().stored().is_lossless()
    }
}

/// The error of a row whose largest weight, of those from `first` on, is beyond the scales of its form.
fn above_range(row: usize, first: usize, x: &[f32], most: f32) -> EncodeError {
    let largest = x.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()));
    let (at, value) = largest.map_or((0, 0.0), |(at, value)| (at, *value));
    EncodeError::AboveRange { row, col: first + at, value, most }
}

/// Rejects values of a part that are not finite, negative, or larger than `most`.
fn check_parameters(name: &'static str, words: &[u32], per_row: usize, most: f32) -> Result<(), EncodeError> {
    let values = floats(words);
    match values.iter().position(|v| !(0.0..=most).contains(v)) {
        Some(i) => Err(EncodeError::Parameter { name, row: i / per_row, value: values[i] }),
        None => Ok(()),
    }
}
