//! Reads, encodes and writes a band of rows at a time.

use std::ops::Range;

use super::plan::{Action, Step};
use crate::{
    EncodeError, EncodedTensor, Error, Fidelity, FloatDtype, Recipe,
    checkpoint::{self, Checkpoint, MatrixWriter, ShardWriter},
    range::BelowRange,
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
    let (mut below, mut kept) = (BelowRange::default(), Fidelity::default());
    let fixed = recipe.options.alpha;
    for band in bands(shape) {
        let (bytes, first) = (matrix.read(band.clone())?, matrix.rows.start + band.start);
        let (encoded, part) = EncodedTensor::encode_band(&bytes, [band.len(), matrix.cols], dtype, &recipe)
            .map_err(|e| matrix.error(e.offset_rows(first)))?;
        below += part.offset_rows(first);
        if fixed.is_some() {
            kept += Fidelity::of(&dtype.widen(&bytes), &encoded.decode());
        }
        out.push(&encoded, writer)?;
        progress(bytes.len() as u64);
    }
    below.check().map_err(|e| matrix.error(e))?;
    if let Some(alpha) = fixed
        && let Some(sqnr_db) = kept.sqnr_db().filter(|db| *db <= 0.0)
    {
        return Err(matrix.error(EncodeError::UnsuitableAlpha { alpha: alpha.get(), sqnr_db }));
    }
    out.finish(writer)
}

/// Resolves the options that all bands of the matrix share.
fn resolve(matrix: &Matrix<'_>, shape: [usize; 2], recipe: &Recipe) -> Result<Recipe, Error> {
    let Some(weights) = recipe.sample() else {
        return Ok(recipe.clone());
    };
    let (mut rows, mut sampled) = (Vec::new(), Vec::new());
    for row in sample::rows(shape, weights) {
        rows.extend(matrix.dtype.widen(&matrix.read(row..row + 1)?));
        sampled.push(matrix.rows.start + row);
    }
    let place = |row: usize| sampled.get(row).copied().unwrap_or(row);
    recipe.resolve(rows, matrix.cols).map_err(|e| matrix.error(e.map_row(place)))
}
