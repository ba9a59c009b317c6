//! Reads, encodes and writes a band of rows at a time.

use std::ops::Range;

use super::plan::{Action, Step};
use crate::{
    EncodedTensor, Error, FloatDtype, Recipe,
    checkpoint::{self, Checkpoint, MatrixWriter, ShardWriter},
    sample,
};

/// Weights in a band, unless a row has more: 8 MiB as `f32`, and enough rows to occupy every core.
const BAND: usize = 1 << 21;

/// Bytes copied at a time.
const COPY: usize = 8 << 20;

/// Splits a matrix into bands of rows; a matrix without weights is one empty band, however many rows it declares.
pub(crate) fn bands([rows, cols]: [usize; 2]) -> impl Iterator<Item = Range<usize>> {
    let band = BAND.checked_div(cols).unwrap_or(rows).max(1);
    (0..rows.div_ceil(band).max(1)).map(move |i| i * band..(i * band).saturating_add(band).min(rows))
}

/// Carries out one step of a plan.
pub(super) fn step(
    source: &Checkpoint,
    Step { tensor, action }: &Step,
    writer: &mut ShardWriter,
    progress: &dyn Fn(u64),
) -> Result<(), Error> {
    match action {
        Action::Copy { spec, .. } => copy(source, tensor, 0..spec.bytes(), &spec.name, writer, progress),
        Action::CopyRows { spec, bytes, .. } => copy(source, tensor, bytes.clone(), &spec.name, writer, progress),
        Action::Encode { module, recipe, rows, cols, dtype, .. } => {
            let matrix = Matrix { source, tensor, rows: rows.clone(), cols: *cols, dtype: *dtype };
            encode(&matrix, module, recipe, writer, progress)
        }
    }
}

fn copy(
    source: &Checkpoint,
    tensor: &str,
    bytes: Range<usize>,
    name: &str,
    writer: &mut ShardWriter,
    progress: &dyn Fn(u64),
) -> Result<(), Error> {
    for from in bytes.clone().step_by(COPY) {
        let piece = source.mapped(tensor, from..bytes.end.min(from + COPY))?;
        writer.write(name, &piece)?;
        progress(piece.len() as u64);
    }
    Ok(())
}

/// Rows of a stored tensor.
struct Matrix<'a> {
    source: &'a Checkpoint,
    tensor: &'a str,
    rows: Range<usize>,
    cols: usize,
    dtype: FloatDtype,
}

impl Matrix<'_> {
    /// The bytes of some of its rows.
    fn read(&self, rows: Range<usize>) -> Result<checkpoint::Mapped, Error> {
        let (first, row) = (self.rows.start, self.cols.saturating_mul(self.dtype.size()));
        self.source.mapped(self.tensor, (first + rows.start) * row..(first + rows.end) * row)
    }

    fn error(&self, message: impl ToString) -> Error {
        Error::tensor(self.source.path_of(self.tensor), self.tensor, message)
    }
}

fn encode(
    matrix: &Matrix<'_>,
    module: &str,
    recipe: &Recipe,
    writer: &mut ShardWriter,
    progress: &dyn Fn(u64),
) -> Result<(), Error> {
    let (shape, dtype) = ([matrix.rows.len(), matrix.cols], matrix.dtype);
    let recipe = resolve(matrix, shape, recipe)?;
    let mut out = MatrixWriter::new(module, &recipe.format(dtype, matrix.cols), shape[0], recipe.is_coded());
    for band in bands(shape) {
        let bytes = matrix.read(band.clone())?;
        let encoded = EncodedTensor::encode_bytes(&bytes, [band.len(), matrix.cols], dtype, &recipe)
            .map_err(|e| matrix.error(e.offset_rows(matrix.rows.start + band.start)))?;
        out.push(&encoded, writer)?;
        progress(bytes.len() as u64);
    }
    out.finish(writer)
}

/// Resolves the options that all bands of the matrix share.
fn resolve(matrix: &Matrix<'_>, shape: [usize; 2], recipe: &Recipe) -> Result<Recipe, Error> {
    let Some(weights) = recipe.sample() else {
        return Ok(recipe.clone());
    };
    let mut rows = Vec::new();
    for row in sample::rows(shape, weights) {
        rows.extend(matrix.dtype.widen(&matrix.read(row..row + 1)?));
    }
    recipe.resolve(rows, matrix.cols).map_err(|e| matrix.error(e))
}
