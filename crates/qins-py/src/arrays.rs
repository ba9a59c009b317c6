//! NumPy arrays as slices, and parts as NumPy arrays.

use numpy::{
    Element as Number, PyArray1, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyReadwriteArrayDyn,
    PyUntypedArrayMethods,
};
use pyo3::{exceptions::PyValueError, prelude::*};
use qins_quant::{Element, PartSpec};

/// An array of `f32` whose elements lie row by row.
///
/// # Errors
/// `ValueError` when it has another type or layout.
pub(crate) fn floats<'py>(name: &str, array: &Bound<'py, PyAny>) -> PyResult<PyReadonlyArrayDyn<'py, f32>> {
    Ok(typed::<f32>(name, "float32", array)?.readonly())
}

/// As [`floats`], to write into.
///
/// # Errors
/// As [`floats`], and when it is read-only or in use.
pub(crate) fn output<'py>(name: &str, array: &Bound<'py, PyAny>) -> PyResult<PyReadwriteArrayDyn<'py, f32>> {
    let array = typed::<f32>(name, "float32", array)?;
    array
        .try_readwrite()
        .map_err(|e| PyValueError::new_err(format!("{name}: expected an array to write into, found {e}")))
}

/// The bytes of an array.
///
/// # Errors
/// As [`floats`].
pub(crate) fn bytes<'py>(name: &str, array: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArrayDyn<u8>>> {
    typed::<u8>(name, "uint8", &array.call_method1("reshape", (-1,))?.call_method1("view", ("uint8",))?)
}

fn typed<'py, T: Number>(name: &str, dtype: &str, array: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    let found = match array.cast::<PyArrayDyn<T>>() {
        Ok(array) if array.is_c_contiguous() => return Ok(array.clone()),
        Ok(_) => format!("{dtype} in another order"),
        Err(_) => match array.getattr("dtype") {
            Ok(dtype) => dtype.str()?.to_string(),
            Err(_) => array.get_type().name()?.to_string(),
        },
    };
    Err(PyValueError::new_err(format!("{name}: expected a C-contiguous NumPy array of {dtype}, found {found}")))
}

/// NumPy's name of an element type.
const fn dtype(element: Element) -> &'static str {
    match element {
        Element::U8 => "uint8",
        Element::I8 => "int8",
        Element::U16 => "uint16",
        Element::I32 => "int32",
        Element::F16 => "float16",
        Element::F32 => "float32",
    }
}

/// A part of a matrix of `rows` rows as an array, with the type and shape of the tensor in a file.
pub(crate) fn of_part<'py>(
    py: Python<'py>,
    part: &PartSpec,
    rows: usize,
    words: &[u32],
) -> PyResult<Bound<'py, PyAny>> {
    let bytes = PyArray1::from_vec(py, part.bytes_of(words));
    bytes.call_method1("view", (dtype(part.element),))?.call_method1("reshape", (part.shape(rows),))
}

/// The words of a part of a matrix of `rows` rows.
///
/// # Errors
/// `ValueError` when the array has another type, shape or layout.
pub(crate) fn to_part(part: &PartSpec, rows: usize, array: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
    let (expected, shape) = (dtype(part.element), part.shape(rows));
    let found = (array.getattr("dtype")?.str()?.to_string(), array.getattr("shape")?.extract::<Vec<usize>>()?);
    if found != (expected.to_owned(), shape.clone()) {
        let (dtype, found) = found;
        let message =
            format!("{}: expected {expected} of shape {shape:?}, found {dtype} of shape {found:?}", part.name);
        return Err(PyValueError::new_err(message));
    }
    Ok(part.words(bytes(part.name, array)?.readonly().as_slice()?))
}
