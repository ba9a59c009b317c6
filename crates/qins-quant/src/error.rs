//! Errors, each with a message of one sentence.

use std::path::PathBuf;

use crate::Scheme;

/// Weights that cannot be encoded, or invalid stored parts.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The number of elements does not match the shape.
    #[error("expected {} elements (shape {expected:?}), found {found}", expected[0].saturating_mul(expected[1]))]
    Length {
        /// The shape.
        expected: [usize; 2],
        /// The number found.
        found: usize,
    },
    /// A part does not have the length that its format requires.
    #[error("expected {} words in part `{name}` (shape {expected:?}), found {found}", expected[0].saturating_mul(expected[1]))]
    Part {
        /// The part.
        name: &'static str,
        /// Its `[rows, n]` in memory.
        expected: [usize; 2],
        /// The number of words.
        found: usize,
    },
    /// The number of parts is wrong.
    #[error("expected {expected} parts for {scheme}, found {found}")]
    Parts {
        /// The scheme.
        scheme: Scheme,
        /// The number of parts the scheme has.
        expected: usize,
        /// The number found.
        found: usize,
    },
    /// The parts are those of plain weights.
    #[error("expected the parts of an encoded matrix, found plain weights")]
    Plain,
    /// The weights could not be read from their device.
    #[error("expected weights, found them unreadable: {0}")]
    Unreadable(String),
    /// A weight is NaN or infinite.
    #[error("expected finite weights, found {value} at row {row}, column {col}")]
    NonFinite {
        /// Row of the first such weight.
        row: usize,
        /// Column of the first such weight.
        col: usize,
        /// The weight.
        value: f32,
    },
    /// A weight that [`Scheme::CompandedF32`] does not give back: to the bit if the source has 16 bits, within 2⁻⁸ if it is `f32`.
    #[error(
        "expected weights that α|x|/(1+α|x|) in f32 gives back, found {value} at row {row}, column {col}, which it decodes \
         to {decoded}"
    )]
    Inexact {
        /// Row of the first such weight.
        row: usize,
        /// Column of the first such weight.
        col: usize,
        /// The weight.
        value: f32,
        /// What it would be decoded to.
        decoded: f32,
    },
    /// A weight is so large that [`Scheme::CompandedF32`] would decode it to ±∞.
    #[error("expected weights below 2^25/α and finite once decoded, found {value} at row {row}, column {col}")]
    Saturated {
        /// Row of the first such weight.
        row: usize,
        /// Column of the first such weight.
        col: usize,
        /// The weight.
        value: f32,
    },
    /// A weight requires a scale beyond `f16`.
    #[error(
        "expected weights of magnitude {most} or less, as an f16 scale ends at 65504, found {value} at row {row}, \
         column {col}"
    )]
    AboveRange {
        /// Row of the first such weight.
        row: usize,
        /// Column of the first such weight.
        col: usize,
        /// The weight.
        value: f32,
        /// The largest magnitude that the scheme can store.
        most: f32,
    },
    /// Weights are so small that the `f16` scales that they require would be coarse, or zero.
    #[error(
        "expected weights of magnitude {least:e} or more, as f16 scales end at 6e-8, found {value:e} as the largest \
         around row {row}, column {col}: lossless and rate store weights of any size"
    )]
    BelowRange {
        /// Row of the first such weight.
        row: usize,
        /// Column of the first such weight.
        col: usize,
        /// The largest weight under its scale.
        value: f32,
        /// The least magnitude that the largest weight under a scale should have.
        least: f32,
    },
    /// A fixed α is too large.
    #[error("expected an α whose scale, 2^15/α, is an f16 above 0, found {0}")]
    LargeAlpha(f32),
    /// A fixed α suits the weights so badly that none of them is left: SQNR is 0 dB or less.
    #[error("expected an α that suits the weights, found {alpha} to leave an SQNR of {sqnr_db:.2} dB")]
    UnsuitableAlpha {
        /// The α.
        alpha: f32,
        /// The SQNR of the decoded weights.
        sqnr_db: f64,
    },
    /// A fixed α was requested for a scheme that fits its curves.
    #[error("expected no fixed α for {0}, which fits its curves")]
    Alpha(Scheme),
    /// Pruning was requested for a scheme that keeps every bit.
    #[error("expected no weights to be pruned with {0}, which keeps every bit")]
    Prune(Scheme),
    /// A weight is too many steps from zero.
    #[error("expected weights within 2^24 steps of {step}, found {value} at row {row}, column {col}")]
    Step {
        /// Row of the first such weight.
        row: usize,
        /// Column of the first such weight.
        col: usize,
        /// The weight.
        value: f32,
        /// The step.
        step: f32,
    },
    /// A stored value of [`Scheme::CompandedF32`] does not decode to a finite weight.
    #[error(
        "expected values of magnitude below 1 that stand for finite weights, found {value} at row {row}, column {col}"
    )]
    Value {
        /// Row of the first such value.
        row: usize,
        /// Column of the first such value.
        col: usize,
        /// The value.
        value: f32,
    },
    /// A stored code of [`Scheme::Rate`] is too large.
    #[error("expected codes of magnitude 2^24 at most, found {code} at row {row}, column {col}")]
    Code {
        /// Row of the first such code.
        row: usize,
        /// Column of the first such code.
        col: usize,
        /// The code.
        code: i32,
    },
    /// A block is too large for the entropy coder.
    #[error("expected blocks below 4 GiB for the entropy coder")]
    Coder,
    /// The importance of a column is not a finite number ≥ 0.
    #[error("expected a finite importance of at least 0, found {value} of column {col}")]
    Importance {
        /// The first such column.
        col: usize,
        /// Its importance.
        value: f32,
    },
    /// A stored scale, curvature or step is not a finite number ≥ 0, or too large.
    #[error("expected a finite {name} of at least 0, found {value} in row {row}")]
    Parameter {
        /// `scale`, `curvature` or `step`.
        name: &'static str,
        /// The row of the tensor it is stored in.
        row: usize,
        /// The stored value.
        value: f32,
    },
}

impl EncodeError {
    /// The same error with `first` added to its row, for rows that start there.
    pub(crate) fn offset_rows(self, first: usize) -> Self {
        self.map_row(|row| row + first)
    }

    /// The same error with its row replaced, for rows taken from elsewhere.
    pub(crate) fn map_row(mut self, place: impl Fn(usize) -> usize) -> Self {
        match &mut self {
            Self::NonFinite { row, .. }
            | Self::Saturated { row, .. }
            | Self::Inexact { row, .. }
            | Self::AboveRange { row, .. }
            | Self::BelowRange { row, .. }
            | Self::Step { row, .. }
            | Self::Value { row, .. }
            | Self::Code { row, .. }
            | Self::Parameter { row, .. } => *row = place(*row),
            Self::Unreadable(_)
            | Self::Length { .. }
            | Self::Part { .. }
            | Self::Parts { .. }
            | Self::Plain
            | Self::Alpha(_)
            | Self::LargeAlpha(_)
            | Self::UnsuitableAlpha { .. }
            | Self::Prune(_)
            | Self::Coder
            | Self::Importance { .. } => {}
        }
        self
    }
}

/// Slices of the wrong length for a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MatmulError {
    /// The activations are not a whole number of rows.
    #[error("expected x to have a whole number of rows of {cols} elements, found {found} elements")]
    Input {
        /// Columns of the matrix.
        cols: usize,
        /// Elements of x.
        found: usize,
    },
    /// The output does not have the length of the product.
    #[error("expected y to have {} elements (shape {expected:?}), found {found}", expected[0].saturating_mul(expected[1]))]
    Output {
        /// `[m, rows]`.
        expected: [usize; 2],
        /// Elements of y.
        found: usize,
    },
}

/// A checkpoint that cannot be read, converted or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A file's content is invalid.
    #[error("{path}: {message}")]
    File {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        message: String,
    },
    /// A tensor is invalid.
    #[error("{path}: tensor `{tensor}`: {message}")]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What was expected and what was found.
        message: String,
    },
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        |source| Self::Io { path: path.into(), source }
    }

    /// An error about a whole file.
    pub fn file(path: impl Into<PathBuf>, message: impl ToString) -> Self {
        Self::File { path: path.into(), message: message.to_string() }
    }

    /// An error about one tensor of a file.
    pub fn tensor(path: impl Into<PathBuf>, tensor: impl Into<String>, message: impl ToString) -> Self {
        Self::Tensor { path: path.into(), tensor: tensor.into(), message: message.to_string() }
    }
}
