//! The commands that work on checkpoints, without a model in memory.

use std::{
    iter,
    path::{Path, PathBuf},
};

use numpy::PyArrayMethods;
use pyo3::prelude::*;
use qins_model::{Conversion, ModelConfig, ModelSource, Override, Policy, Targets, check};
use qins_quant::{
    FloatDtype, Recipe, Scheme,
    checkpoint::{Checkpoint, Files},
};
use serde_json::json;
use xxhash_rust::xxh3::xxh3_64;

use crate::{arrays, errors, matrix};

fn open(dir: &Path) -> PyResult<Checkpoint> {
    Checkpoint::open(Files::Directory(dir.to_owned())).map_err(errors::file)
}

/// The plain checkpoint that another is compared with.
fn source(against: Option<PathBuf>) -> PyResult<Option<Checkpoint>> {
    against.map(|dir| open(&dir)).transpose()
}

/// As `qins convert --no-calibrate`; what was written as JSON.
#[pyfunction]
#[pyo3(signature = (model, out, *, scheme, targets = "safe", overrides = Vec::new(), alpha = None, bits_per_weight = None, prune = 0.0, entropy = false))]
#[allow(clippy::too_many_arguments)]
pub(crate) fn convert(
    py: Python<'_>,
    model: PathBuf,
    out: PathBuf,
    scheme: &str,
    targets: &str,
    overrides: Vec<String>,
    alpha: Option<f32>,
    bits_per_weight: Option<f64>,
    prune: f32,
    entropy: bool,
) -> PyResult<String> {
    let scheme = matrix::scheme(scheme)?;
    let overrides = overrides.iter().map(|text| text.parse().map_err(errors::policy));
    let overrides: Vec<Override> = overrides.collect::<PyResult<_>>()?;
    let schemes: Vec<Scheme> = iter::once(scheme).chain(overrides.iter().filter_map(Override::scheme)).collect();
    let options = matrix::options(&schemes, alpha, bits_per_weight, prune)?;
    let recipe = Recipe { coded: entropy, options, ..scheme.into() };
    let targets = targets.parse::<Targets>().map_err(errors::policy)?;
    let policy = Policy { overrides, ..Policy::new(targets, recipe) };
    py.detach(|| {
        let source = ModelSource::of_directory(model).map_err(errors::model)?;
        let conversion = Conversion::of(&source.checkpoint).map_err(errors::model)?;
        let written = conversion.policy(policy).write(out).map_err(errors::model)?;
        let unused: Vec<String> = written.unused.iter().map(ToString::to_string).collect();
        let left_out: Vec<String> = written.left_out.iter().map(ToString::to_string).collect();
        Ok(json!({ "bytes_before": written.bytes_before, "bytes_after": written.bytes_after,
                   "unused": unused, "left_out": left_out })
        .to_string())
    })
}

/// As `qins export`.
#[pyfunction]
#[pyo3(signature = (model, out, *, dtype = None))]
pub(crate) fn export(py: Python<'_>, model: PathBuf, out: PathBuf, dtype: Option<&str>) -> PyResult<()> {
    let dtype: Option<FloatDtype> = dtype.map(|name| matrix::dtype("dtype", name)).transpose()?;
    py.detach(|| {
        let checkpoint = open(&model)?;
        let config = ModelConfig::of(&checkpoint).map_err(errors::model)?;
        check(&checkpoint, &config).map_err(errors::model)?;
        qins_quant::export::export(&checkpoint, &out, dtype, &|_| {}).map(drop).map_err(errors::file)
    })
}

/// As `qins inspect --json`.
#[pyfunction]
#[pyo3(signature = (model, against = None))]
pub(crate) fn inspect(py: Python<'_>, model: PathBuf, against: Option<PathBuf>) -> PyResult<String> {
    py.detach(|| {
        let found = qins_quant::inspect::inspect(&open(&model)?, source(against)?.as_ref(), &|_| {});
        Ok(json!(found.map_err(errors::file)?).to_string())
    })
}

/// As `qins verify --json`.
#[pyfunction]
#[pyo3(signature = (model, against = None))]
pub(crate) fn verify(py: Python<'_>, model: PathBuf, against: Option<PathBuf>) -> PyResult<String> {
    py.detach(|| {
        // As the program does without `--min-sqnr`.
        let found = qins_model::verify(&open(&model)?, source(against)?.as_ref(), 0.0, &|_| {});
        Ok(json!(found.map_err(errors::file)?).to_string())
    })
}

/// Checks that an encoded checkpoint has every tensor of its modules, and compares all with their checksums.
#[pyfunction]
pub(crate) fn check_intact(py: Python<'_>, model: PathBuf) -> PyResult<()> {
    py.detach(|| {
        let checkpoint = open(&model)?;
        for module in checkpoint.encoded_modules() {
            let names = checkpoint.tensors_of_module(module).map_err(errors::file)?;
            names.iter().try_for_each(|name| checkpoint.require(name).map(drop)).map_err(errors::file)?;
        }
        checkpoint.tensors().try_for_each(|tensor| checkpoint.intact(tensor).map(drop)).map_err(errors::file)
    })
}

/// XXH3 of an array's bytes, in 16 hexadecimal digits.
#[pyfunction]
pub(crate) fn xxh3(array: &Bound<'_, PyAny>) -> PyResult<String> {
    let bytes = arrays::bytes("array", array)?;
    Ok(format!("{:016x}", xxh3_64(bytes.readonly().as_slice()?)))
}
