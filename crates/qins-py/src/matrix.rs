//! One encoded matrix.

use std::{ops::Range, path::PathBuf, sync::Arc};

use numpy::{PyArrayDyn, PyUntypedArrayMethods};
use pyo3::{exceptions::PyValueError, prelude::*, types::PyDict};
use qins_quant::{
    Alpha, CompandedFloat, EncodeOptions, EncodedTensor, FloatDtype, Form, MatrixFormat, Prune, Rate, Recipe, Scheme,
    checkpoint::{Checkpoint, Files},
};

use crate::{
    arrays,
    errors::{self, encode},
};

/// An encoded `[out, in]` matrix of weights.
///
/// Arrays are C-contiguous and of float32, or a ValueError says so: nothing is copied or converted silently.
#[pyclass(frozen, module = "qins")]
pub(crate) struct EncodedMatrix(EncodedTensor);

#[pymethods]
impl EncodedMatrix {
    /// Encodes `weights`, an array of shape `[out, in]`.
    ///
    /// `scheme` is one of `qins.SCHEMES`; `source_dtype` the type the weights had: float32, float16 or bfloat16. `alpha` fixes the
    /// curve of `companded-f32` and `q8`; `bits_per_weight` is that of `rate`; `prune` the share of each row's weights to set to
    /// zero first; `importance`, of shape `[in]`, weights the squared errors of the columns.
    ///
    /// Raises EncodeError for weights that cannot be encoded, PolicyError for an option that is not valid.
    #[staticmethod]
    #[pyo3(signature = (weights, scheme, *, source_dtype = "float32", alpha = None, bits_per_weight = None, prune = 0.0, importance = None))]
    #[allow(clippy::too_many_arguments)]
    fn encode(
        py: Python<'_>,
        weights: &Bound<'_, PyAny>,
        scheme: &str,
        source_dtype: &str,
        alpha: Option<f32>,
        bits_per_weight: Option<f64>,
        prune: f32,
        importance: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let weights = arrays::floats("weights", weights)?;
        let shape = two(weights.shape())?;
        let importance = importance.map(|array| arrays::floats("importance", array)).transpose()?;
        let importance: Option<Arc<[f32]>> = importance.map(|array| array.as_slice().map(Arc::from)).transpose()?;
        let scheme = self::scheme(scheme)?;
        let options = options(&[scheme], alpha, bits_per_weight, prune)?;
        let recipe = Recipe { options, importance, ..scheme.into() };
        let (values, source) = (weights.as_slice()?, dtype("source_dtype", source_dtype)?);
        py.detach(|| EncodedTensor::encode_as(values, shape, source, &recipe)).map(Self).map_err(encode)
    }

    /// A matrix of shape `(out, in)` from the tensors that store it, named without `weight_`: types and shapes as in docs/format.md.
    ///
    /// Raises ValueError for a missing part or another type or shape, EncodeError for values that are not valid.
    #[staticmethod]
    #[pyo3(signature = (parts, scheme, shape, *, source_dtype = "float32", alpha = None))]
    fn from_parts(
        parts: &Bound<'_, PyDict>,
        scheme: &str,
        shape: [usize; 2],
        source_dtype: &str,
        alpha: Option<f32>,
    ) -> PyResult<Self> {
        let alpha = alpha.map_or(Ok(Alpha::ONE), Alpha::new).map_err(errors::policy)?;
        let form = match self::scheme(scheme)?.form() {
            Form::CompandedFloat(_) => Form::CompandedFloat(CompandedFloat { alpha }),
            other => other,
        };
        let [rows, cols] = shape;
        let format = MatrixFormat::new(form, dtype("source_dtype", source_dtype)?, cols);
        let specs = format.parts();
        let expected: Vec<&str> = specs.iter().map(|part| part.name).collect();
        let mut words = Vec::new();
        for part in &specs {
            let array = parts.get_item(part.name)?;
            let array = array.filter(|_| parts.len() == specs.len()).ok_or_else(|| {
                PyValueError::new_err(format!("expected the parts {expected:?}, found {}", parts.keys()))
            })?;
            words.push(arrays::to_part(part, rows, &array)?);
        }
        EncodedTensor::from_parts(format, rows, words).map(Self).map_err(encode)
    }

    /// Reads a file of one matrix, and compares every tensor with its checksum. Raises CheckpointError.
    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        py.detach(|| EncodedTensor::load(path)).map(Self).map_err(errors::file)
    }

    /// Reads one encoded module of a checkpoint, entropy-coded or not, after comparison with its checksums. Raises CheckpointError.
    #[staticmethod]
    fn of_module(py: Python<'_>, model: PathBuf, module: &str) -> PyResult<Self> {
        py.detach(|| Checkpoint::open(Files::Directory(model))?.encoded(module)).map(Self).map_err(errors::file)
    }

    /// Writes a file of one matrix: complete or not at all. Raises CheckpointError.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        py.detach(|| self.0.save(path)).map_err(errors::file)
    }

    /// The tensors that store the matrix, named without `weight_`, with the types and shapes of docs/format.md.
    fn parts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let parts = PyDict::new(py);
        for (part, words) in self.0.format().parts().iter().zip(self.0.parts()) {
            parts.set_item(part.name, arrays::of_part(py, part, self.0.shape()[0], words)?)?;
        }
        Ok(parts)
    }

    /// The weights, or those of `rows` (a range `(start, end)`), of shape `[rows, in]`, in a new array or in `out`.
    #[pyo3(signature = (out = None, *, rows = None))]
    fn decode<'py>(
        &self,
        py: Python<'py>,
        out: Option<Bound<'py, PyAny>>,
        rows: Option<(usize, usize)>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let [all, cols] = self.0.shape();
        let (start, end) = rows.unwrap_or((0, all));
        if start > end || end > all {
            return Err(PyValueError::new_err(format!("rows: expected a range of {all} rows, found ({start}, {end})")));
        }
        let rows: Range<usize> = start..end;
        into(py, out, &[rows.len(), cols], |out| self.0.decode_rows(rows.clone(), out))
    }

    /// The product `x · wᵀ`, of shape `[..., out]` for `x` of shape `[..., in]`, in a new array or in `out`.
    ///
    /// Codes of 3 to 8 bits are multiplied as integers, with activations rounded to 16 bits: the normalised mean squared error is below
    /// `qins.INTEGER_NMSE`. The result depends neither on the instruction set nor on the number of threads.
    #[pyo3(signature = (x, out = None))]
    fn matmul<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
        out: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let x = arrays::floats("x", x)?;
        let [rows, cols] = self.0.shape();
        let Some((_, batch)) = x.shape().split_last().filter(|(last, _)| **last == cols) else {
            let message = format!("x: expected shape [..., {cols}], found {:?}", x.shape());
            return Err(PyValueError::new_err(message));
        };
        let shape: Vec<usize> = batch.iter().copied().chain([rows]).collect();
        let x = x.as_slice()?;
        let mut result = Ok(());
        let out = into(py, out, &shape, |y| result = self.0.matmul(x, y))?;
        result.map_err(|e| PyValueError::new_err(e.to_string()))?;
        Ok(out)
    }

    /// `(out, in)`.
    #[getter]
    fn shape(&self) -> (usize, usize) {
        let [rows, cols] = self.0.shape();
        (rows, cols)
    }

    /// The scheme's name.
    #[getter]
    fn scheme(&self) -> &'static str {
        self.0.scheme().name()
    }

    /// The type of the weights before encoding.
    #[getter]
    fn source_dtype(&self) -> &'static str {
        self.0.source().name()
    }

    /// The α of `companded-f32`; None of the other schemes.
    #[getter]
    fn alpha(&self) -> Option<f32> {
        self.0.format().alpha().map(Alpha::get)
    }

    /// Bytes of all parts.
    #[getter]
    fn nbytes(&self) -> usize {
        self.0.bytes()
    }

    fn __repr__(&self) -> String {
        let [rows, cols] = self.0.shape();
        format!("EncodedMatrix({} of {}, {rows} x {cols})", self.0.scheme(), self.0.source().name())
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// Runs `compute` on `out`, or on a new array of this shape, and returns it.
fn into<'py>(
    py: Python<'py>,
    out: Option<Bound<'py, PyAny>>,
    shape: &[usize],
    compute: impl FnOnce(&mut [f32]) + Send,
) -> PyResult<Bound<'py, PyAny>> {
    let out = match out {
        Some(out) => out,
        None => PyArrayDyn::<f32>::zeros(py, shape, false).into_any(),
    };
    let mut array = arrays::output("out", &out)?;
    if array.shape() != shape {
        return Err(PyValueError::new_err(format!("out: expected shape {shape:?}, found {:?}", array.shape())));
    }
    let slice = array.as_slice_mut()?;
    py.detach(|| compute(slice));
    drop(array);
    Ok(out)
}

fn two(shape: &[usize]) -> PyResult<[usize; 2]> {
    shape.try_into().map_err(|_| PyValueError::new_err(format!("weights: expected shape [out, in], found {shape:?}")))
}

/// The scheme of a name.
pub(crate) fn scheme(name: &str) -> PyResult<Scheme> {
    name.parse().map_err(errors::policy)
}

/// The options of an encoder in these schemes.
pub(crate) fn options(
    schemes: &[Scheme],
    alpha: Option<f32>,
    bits: Option<f64>,
    prune: f32,
) -> PyResult<EncodeOptions> {
    if bits.is_some() && !schemes.contains(&Scheme::Rate) {
        return Err(errors::policy(format!("bits_per_weight: expected the scheme rate, found {}", schemes[0])));
    }
    Ok(EncodeOptions {
        alpha: alpha.map(Alpha::new).transpose().map_err(errors::policy)?,
        rate: bits.map_or(Ok(Rate::default()), Rate::bits).map_err(errors::policy)?,
        prune: Prune::new(prune).map_err(errors::policy)?,
        ..EncodeOptions::default()
    })
}

/// The type of a name, which an argument has.
pub(crate) fn dtype(argument: &str, name: &str) -> PyResult<FloatDtype> {
    let all = [FloatDtype::F32, FloatDtype::F16, FloatDtype::Bf16];
    all.into_iter().find(|dtype| dtype.name() == name).ok_or_else(|| {
        let names = all.map(FloatDtype::name).join(", ");
        errors::policy(format!("{argument}: expected one of {names}, found `{name}`"))
    })
}
