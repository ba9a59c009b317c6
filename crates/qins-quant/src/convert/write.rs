//! Reads, encodes and writes a band of rows at a time.

use std::ops::Range;

use super::plan::{Action, Step};
use crate::{
    Calibration, EncodeError, EncodedTensor, Error, Fidelity, FloatDtype, Recipe,
    checkpoint::{self, Checkpoint, MatrixWriter, ShardWriter},
    feedback::CORRECTED_ROWS,
    range::BelowRange,
    sample,
};

/// Weights in a band, unless a row has more: 8 MiB as `f32`, and enough rows to occupy every core.
const BAND: usize = 1 << 21;

/// Weights in a band that is encoded with feedback, where a task has 64 rows or 128.
const FEEDBACK_BAND: usize = 8 * BAND;

/// Rows of a linear whose outputs are compared with those of the plain weights.
const JUDGED: usize = 128;

/// Bytes copied at a time.
const COPY: usize = 8 << 20;

/// Splits a matrix into bands of rows; a matrix without weights is one empty band, however many rows it declares. Where a
/// band has as many rows as are encoded together, it is a whole number of such, so that these do not depend on the bands.
pub(crate) fn bands(shape: [usize; 2]) -> impl Iterator<Item = Range<usize>> {
    bands_of(shape, BAND)
}

fn bands_of([rows, cols]: [usize; 2], weights: usize) -> impl Iterator<Item = Range<usize>> {
    let most = weights.checked_div(cols).unwrap_or(rows).max(1);
    let band = if most < CORRECTED_ROWS { most } else { most - most % CORRECTED_ROWS };
    (0..rows.div_ceil(band).max(1)).map(move |i| i * band..(i * band).saturating_add(band).min(rows))
}

/// Carries out one step of a plan; of a linear with feedback, returns the signal-to-noise ratio of its outputs in dB.
pub(super) fn step(
    source: &Checkpoint,
    Step { tensor, action }: &Step,
    mut calibration: Option<&mut (dyn Calibration + '_)>,
    writer: &mut ShardWriter,
    progress: &dyn Fn(u64),
) -> Result<Option<f64>, Error> {
    match action {
        Action::Copy { spec, .. } => copy(source, tensor, 0..spec.bytes(), &spec.name, writer, progress).map(|()| None),
        Action::CopyRows { spec, bytes, .. } => {
            copy(source, tensor, bytes.clone(), &spec.name, writer, progress).map(|()| None)
        }
        Action::Encode { module, recipe, rows, cols, dtype, .. } => {
            let matrix = Matrix { source, tensor, rows: rows.clone(), cols: *cols, dtype: *dtype };
            let recipe = match &mut calibration {
                None => recipe.clone(),
                Some(calibration) => recipe.calibrated(module, &mut **calibration).map_err(|e| matrix.error(e))?,
            };
            let follower = calibration.filter(|calibration| calibration.follows(module));
            let mut whole: Option<EncodedTensor> = None;
            let keep = &mut |band: EncodedTensor| match &mut whole {
                _ if follower.is_none() => {}
                Some(whole) => whole.append(band),
                None => whole = Some(band),
            };
            let decibels = encode(&matrix, module, &recipe, keep, writer, progress)?;
            if let (Some(follower), Some(encoded)) = (follower, whole) {
                follower.encoded(module, &encoded).map_err(|e| matrix.error(e))?;
            }
            Ok(decibels)
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

/// Gives each band to `keep` once it is written.
fn encode(
    matrix: &Matrix<'_>,
    module: &str,
    recipe: &Recipe,
    keep: &mut dyn FnMut(EncodedTensor),
    writer: &mut ShardWriter,
    progress: &dyn Fn(u64),
) -> Result<Option<f64>, Error> {
    let (shape, dtype) = ([matrix.rows.len(), matrix.cols], matrix.dtype);
    let recipe = resolve(matrix, shape, recipe)?;
    let mut out = MatrixWriter::new(module, &recipe.format(dtype, matrix.cols), shape[0], recipe.is_coded());
    let (mut below, mut kept) = (BelowRange::default(), Fidelity::default());
    let fixed = recipe.options.alpha;
    let feedback = recipe.feedback.as_deref().filter(|_| recipe.uses_feedback());
    let judged: Vec<usize> = feedback.map_or(Vec::new(), |_| sample::rows(shape, JUDGED * matrix.cols).collect());
    let (mut weights, mut errors) = (Vec::new(), Vec::new());
    for band in bands_of(shape, feedback.map_or(BAND, |_| FEEDBACK_BAND)) {
        let (bytes, first) = (matrix.read(band.clone())?, matrix.rows.start + band.start);
        let (encoded, part) = EncodedTensor::encode_band(&bytes, [band.len(), matrix.cols], dtype, &recipe)
            .map_err(|e| matrix.error(e.offset_rows(first)))?;
        below += part.offset_rows(first);
        if fixed.is_some() {
            kept += Fidelity::of(&dtype.widen(&bytes), &encoded.decode());
        }
        for row in judged.iter().filter(|row| band.contains(row)).map(|row| row - band.start) {
            let stride = matrix.cols * dtype.size();
            let plain = dtype.widen(&bytes[row * stride..][..stride]);
            let mut decoded = vec![0.0; matrix.cols];
            encoded.decode_rows(row..row + 1, &mut decoded);
            errors.extend(plain.iter().zip(decoded).map(|(w, q)| w - q));
            weights.extend(plain);
        }
        out.push(&encoded, writer)?;
        keep(encoded);
        progress(bytes.len() as u64);
    }
    below.check().map_err(|e| matrix.error(e))?;
    if let Some(alpha) = fixed
        && let Some(sqnr_db) = kept.sqnr_db().filter(|db| *db <= 0.0)
    {
        return Err(matrix.error(EncodeError::UnsuitableAlpha { alpha: alpha.get(), sqnr_db }));
    }
    out.finish(writer)?;
    // What its weights make up for is not their error.
    if let Some(corrected) = feedback.and_then(|feedback| feedback.corrected(&weights)) {
        errors.iter_mut().zip(corrected.iter().zip(&weights)).for_each(|(e, (corrected, w))| *e += corrected - w);
    }
    let [signal, noise] = [weights, errors].map(|rows| feedback.map_or(0.0, |feedback| feedback.energy(&rows)));
    // Zeros, and what is kept to the bit, have no ratio.
    Ok((signal > 0.0 && noise > 0.0).then(|| 10.0 * (signal / noise).log10()))
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
