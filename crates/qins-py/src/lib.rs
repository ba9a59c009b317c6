//! `qins._native`: encoded matrices on NumPy arrays, and the commands that work on checkpoints.
//!
//! Arrays are read where they are and written into: nothing is copied, and nothing is converted silently. The package `qins`
//! (`python/`) has the documentation of every function, for Python.

mod arrays;
mod checkpoint;
mod errors;
mod matrix;

use pyo3::prelude::*;

/// The native part of the package `qins`.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::checkpoint::{check_intact, convert, export, inspect, verify, xxh3};
    #[pymodule_export]
    use super::errors::{CheckpointError, EncodeError, PolicyError, QinsError};
    #[pymodule_export]
    use super::matrix::EncodedMatrix;

    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("FORMAT_VERSION", qins_quant::checkpoint::FORMAT_VERSION)?;
        module.add("INTEGER_NMSE", qins_quant::kernel::INTEGER_NMSE)?;
        module.add("SCHEMES", qins_quant::Scheme::ALL.map(qins_quant::Scheme::name).to_vec())
    }
}
