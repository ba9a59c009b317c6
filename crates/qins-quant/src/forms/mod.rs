//! The forms a matrix is stored in, each in a module of its own: its parts, how weights are encoded in it, how a row is read.
//!
//! To add one, write such a module and name it in [`Form`]; the compiler then names every kernel that has to learn it.

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

use crate::{EncodeError, FloatDtype, Scheme};

/// What a matrix is stored as, by construction. Not `#[non_exhaustive]`: who reads matrices must know every form.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    /// The weights themselves.
    Plain,
    /// Whole companded values.
    CompandedFloat(CompandedFloat),
    /// A byte for each weight, and a scale and a curve for each row.
    CompandedRow,
    /// Codes of 3 to 8 bits in groups.
    Grouped(Layout),
    /// The source's own bits, cut and turned for an entropy coder.
    Lossless,
    /// Whole numbers of a step.
    Rate,
}

/// What a form says of itself.
pub(crate) trait StoredForm {
    /// The parts of a matrix of `cols` columns whose weights were of type `source`, in the order of a file.
    fn parts(&self, source: FloatDtype, cols: usize) -> Vec<PartSpec>;

    /// Encodes finite weights, with [`resolve`](Self::resolve)d options.
    fn encode(&self, format: &MatrixFormat, weights: &Weights<'_>) -> Result<Vec<Vec<u32>>, EncodeError>;

    /// Whether parts of the right lengths have values that the form allows.
    fn check(&self, format: &MatrixFormat, parts: &[&[u32]]) -> Result<(), EncodeError>;

    /// Whether every weight comes back as the bits it was, from a source of bf16.
    fn is_lossless(&self) -> bool {
        false
    }

    /// Whether an encoder has a use for a fixed α.
    fn takes_alpha(&self) -> bool {
        false
    }

    /// Whether an encoder weighs errors by the importance of columns.
    fn uses_importance(&self) -> bool {
        false
    }

    /// The type of the plain weights it is in memory; `None` where it stays as it is stored.
    fn plain_in_memory(&self, _source: FloatDtype) -> Option<FloatDtype> {
        None
    }

    /// Weights to look at before the options of a whole matrix are decided; `None` where there is nothing to decide.
    fn sample(&self, _options: &EncodeOptions) -> Option<usize> {
        None
    }

    /// Decides from such a sample what all rows have in common.
    fn resolve(&self, _sample: &Weights<'_>, _options: &mut EncodeOptions) -> Result<(), EncodeError> {
        Ok(())
    }

    /// The parts of a matrix from its source's own bytes, where these are kept to the bit.
    fn encode_bytes(&self, _format: &MatrixFormat, _bytes: &[u8]) -> Option<Vec<Vec<u32>>> {
        None
    }

    /// The source's own bytes of some rows, where these are kept to the bit.
    fn source_bytes(&self, _format: &MatrixFormat, _parts: &[&[u32]], _rows: Range<usize>) -> Option<Vec<u8>> {
        None
    }
}

/// Weights to encode.
pub(crate) struct Weights<'a> {
    /// Finite, row-major.
    pub(crate) values: &'a [f32],
    pub(crate) shape: [usize; 2],
    /// One number ≥ 0 for each column, by which the squared errors there count.
    pub(crate) importance: Option<&'a [f32]>,
    pub(crate) options: EncodeOptions,
}

impl Form {
    /// The form of a scheme, whose α, if it has one, is this.
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

    /// The scheme that is stored so; `None` of plain weights.
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

    /// The only place that knows which module is whose.
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
    /// The form of what is stored; that of [`CompandedF32`](Self::CompandedF32) with an α of 1.
    pub const fn form(self) -> Form {
        Form::of(self, Alpha::ONE)
    }

    /// Whether it is for files alone: what is read from them is plain weights in memory. Such a scheme is always
    /// entropy-coded, the others are where a [`Recipe`](crate::Recipe) says so.
    pub fn is_storage_only(self) -> bool {
        self.form().stored().plain_in_memory(FloatDtype::F32).is_some()
    }

    /// Whether the fit weighs errors by their importance; pruning does so under every scheme.
    pub fn uses_importance(self) -> bool {
        self.form().stored().uses_importance()
    }

    /// Whether every weight comes back as the bits it was, from a source of bf16.
    pub fn is_lossless(self) -> bool {
        self.form().stored().is_lossless()
    }
}

/// Refuses values of a part that are not finite, negative, or larger than `most`.
fn check_parameters(name: &'static str, words: &[u32], per_row: usize, most: f32) -> Result<(), EncodeError> {
    let values = floats(words);
    match values.iter().position(|v| !(0.0..=most).contains(v)) {
        Some(i) => Err(EncodeError::Parameter { name, row: i / per_row, value: values[i] }),
        None => Ok(()),
    }
}
