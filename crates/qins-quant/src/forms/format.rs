//! The format of a stored matrix: all but its number of rows and its data.

use std::fmt;

use qins_codec::Alpha;

use super::{Form, PartSpec};
use crate::{FloatDtype, Scheme};

/// How a matrix is stored: its form, its source type and its columns. The [`parts`](Self::parts) of a matrix
/// cannot be interpreted without it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MatrixFormat {
    form: Form,
    source: FloatDtype,
    cols: usize,
}

impl MatrixFormat {
    /// The format of rows of `cols` weights that were of type `source` before encoding.
    pub const fn new(form: Form, source: FloatDtype, cols: usize) -> Self {
        Self { form, source, cols }
    }

    /// The form.
    pub const fn form(&self) -> Form {
        self.form
    }

    /// The scheme; `None` of plain weights.
    pub const fn scheme(&self) -> Option<Scheme> {
        self.form.scheme()
    }

    /// The type of the weights before encoding; for plain weights, their type.
    pub const fn source(&self) -> FloatDtype {
        self.source
    }

    /// Weights per row.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// The α of [`Scheme::CompandedF32`].
    pub const fn alpha(&self) -> Option<Alpha> {
        match self.form {
            Form::CompandedFloat(form) => Some(form.alpha),
            Form::Plain | Form::CompandedRow | Form::Grouped(_) | Form::Lossless | Form::Rate => None,
        }
    }

    /// The format of the same weights in memory: this one, or plain weights if the scheme is storage-only.
    pub fn in_memory(&self) -> Self {
        match self.form.stored().plain_in_memory(self.source) {
            Some(dtype) => Self::new(Form::Plain, dtype, self.cols),
            None => *self,
        }
    }

    /// The parts of a matrix, in file order.
    pub fn parts(&self) -> Vec<PartSpec> {
        self.form.stored().parts(self.source, self.cols)
    }
}

impl fmt::Display for MatrixFormat {
    /// `q4 of bfloat16, 3072 columns`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme() {
            Some(scheme) => write!(f, "{scheme} of {}", self.source.name())?,
            None => write!(f, "plain {}", self.source.name())?,
        }
        if let Some(alpha) = self.alpha() {
            write!(f, ", alpha {}", alpha.get())?;
        }
        write!(f, ", {} columns", self.cols)
    }
}
