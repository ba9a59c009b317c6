//! The rows of an encoded module in the source checkpoint.

use std::ops::Range;

use crate::{
    Error,
    checkpoint::{Checkpoint, Mapped, Plain},
};

/// A module's rows in the plain source checkpoint.
#[derive(Debug)]
pub struct Origin<'a> {
    source: &'a Checkpoint,
    tensor: String,
    plain: Plain<'a>,
    first: usize,
    shape: [usize; 2],
}

impl<'a> Origin<'a> {
    /// Finds the rows of `module`, of shape `[rows, cols]`, in `source`: under its own name, or in the fused matrix
    /// that `encoded` names.
    ///
    /// # Errors
    /// When they are missing or have another shape.
    pub fn find(
        encoded: &Checkpoint,
        source: &'a Checkpoint,
        module: &str,
        [rows, cols]: [usize; 2],
    ) -> Result<Self, Error> {
        let own = format!("{module}.weight");
        let fused =
            encoded.quantization().and_then(|q| q.fused.iter().find(|(_, parts)| parts.iter().any(|p| p == module)));
        let (tensor, first, total) = match fused {
            Some((fused, parts)) if !source.contains(&own) => {
                let (mut first, mut total) = (0, 0);
                for part in parts {
                    if part == module {
                        first = total;
                    }
                    total = shape_of(encoded, part)?[0].checked_add(total).ok_or_else(|| {
                        Error::tensor(
                            encoded.config_path(),
                            fused,
                            "expected a number of rows that fits 64 bits, found more",
                        )
                    })?;
                }
                (format!("{fused}.weight"), first, total)
            }
            _ => (own, 0, rows),
        };
        let plain = source.plain_rows(&tensor, [total, cols], 0..total)?;
        Ok(Self { source, tensor, plain, first, shape: [rows, cols] })
    }

    /// The tensor that contains them.
    pub fn plain(&self) -> &Plain<'a> {
        &self.plain
    }

    /// `[rows, cols]`.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The bytes of some of its rows.
    ///
    /// # Errors
    /// When the file has changed.
    pub fn read(&self, rows: Range<usize>) -> Result<Mapped, Error> {
        let row = self.shape[1].saturating_mul(self.plain.dtype.size());
        self.source.mapped(&self.tensor, (self.first + rows.start) * row..(self.first + rows.end) * row)
    }
}

/// Checks that a checkpoint is plain, as a source must be.
///
/// # Errors
/// When it is encoded.
pub fn expect_source(source: &Checkpoint) -> Result<(), Error> {
    match source.quantization() {
        None => Ok(()),
        Some(_) => {
            let message = "expected a plain checkpoint as the source, found an encoded one";
            Err(Error::file(source.config_path(), message))
        }
    }
}

/// `[rows, cols]` of a module, encoded or plain.
pub(crate) fn shape_of(checkpoint: &Checkpoint, module: &str) -> Result<[usize; 2], Error> {
    if checkpoint.is_encoded(module) {
        return checkpoint.encoded_shape(module);
    }
    let name = format!("{module}.weight");
    let plain = checkpoint.plain(&name)?;
    match plain.shape {
        &[rows, cols] => Ok([rows, cols]),
        shape => Err(Error::tensor(plain.path, name, format!("expected a matrix, found shape {shape:?}"))),
    }
}
