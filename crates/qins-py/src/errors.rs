//! Exceptions, each with the library's sentence.

use pyo3::{PyErr, create_exception, exceptions::PyException};
use qins_model::Error;

create_exception!(qins, QinsError, PyException, "The base of all exceptions of this package.");
create_exception!(qins, EncodeError, QinsError, "Weights that cannot be encoded, or stored parts that are not valid.");
create_exception!(
    qins,
    CheckpointError,
    QinsError,
    "A file that is missing, damaged or not valid, or cannot be written."
);
create_exception!(qins, PolicyError, QinsError, "A scheme, target, override or option that is not valid.");

/// The exception of weights or parts.
pub(crate) fn encode(error: qins_quant::EncodeError) -> PyErr {
    EncodeError::new_err(error.to_string())
}

/// The exception of a file.
pub(crate) fn file(error: qins_quant::Error) -> PyErr {
    CheckpointError::new_err(error.to_string())
}

/// The exception of a model's files or of a policy.
pub(crate) fn model(error: Error) -> PyErr {
    match error {
        Error::Policy(message) => PolicyError::new_err(message),
        other => CheckpointError::new_err(other.to_string()),
    }
}

/// The exception of an argument.
pub(crate) fn policy(error: impl ToString) -> PyErr {
    PolicyError::new_err(error.to_string())
}
