//! Converts an encoded checkpoint back into a plain one, which any other program can read.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::{Value, json};

use crate::{
    Error, FloatDtype,
    checkpoint::{Checkpoint, Directory, Dtype, LeftOut, ShardWriter, TensorSpec, list},
    convert::{bands, pretty, write_index},
    origin::shape_of,
};

/// A plain tensor, and the modules whose rows it has, in order; none if it is copied.
struct Step {
    spec: TensorSpec,
    modules: Vec<String>,
}

/// Writes the encoded `source` to `out` with every weight decoded and fused matrices joined again.
///
/// Without a `dtype` every tensor gets the type it had before it was encoded; with one, all floating-point tensors get
/// that type. `lossless` modules are exported bit for bit. The other files are copied, in subdirectories too, except those that
/// are returned. `progress` is called with the bytes read since its last call.
///
/// # Errors
/// When `source` is plain or damaged, has a weight that `dtype` cannot represent, or `out` cannot be written. Then nothing
/// is left at `out`.
pub fn export(
    source: &Checkpoint,
    out: &Path,
    dtype: Option<FloatDtype>,
    progress: &dyn Fn(u64),
) -> Result<Vec<LeftOut>, Error> {
    let Some(quantization) = source.quantization() else {
        return Err(Error::file(source.config_path(), "expected an encoded checkpoint, found a plain one"));
    };
    let carried = list(source)?;
    let directory = Directory::create(out)?;
    let mut weight_map = BTreeMap::new();
    let mut bytes = 0;
    for shard in source.shards() {
        let steps = plan(source, &quantization.fused, shard, dtype)?;
        for step in &steps {
            if weight_map.insert(step.spec.name.clone(), shard.to_owned()).is_some() {
                let message = "expected once in what is written, found twice";
                return Err(Error::tensor(source.files().path(shard), &step.spec.name, message));
            }
        }
        let specs = steps.iter().map(|step| step.spec.clone()).collect();
        let mut writer = directory.shard_like(source, shard, specs, Vec::new())?;
        steps.iter().try_for_each(|step| write(source, step, &mut writer, progress))?;
        bytes += writer.finish()?.values().sum::<usize>();
    }
    directory.carry(source, &carried)?;
    write_index(&directory, source, &weight_map, bytes)?;
    let mut config = source.config().clone();
    if let Value::Object(config) = &mut config {
        config.remove("quantization_config");
        for key in ["torch_dtype", "dtype"] {
            if let (Some(dtype), true) = (dtype, config.contains_key(key)) {
                config.insert(key.to_owned(), json!(dtype));
            }
        }
    }
    directory.write("config.json", pretty(&config).as_bytes())?;
    directory.commit()?;
    Ok(carried.left_out)
}

/// The plain tensors of a shard; the linears of a fused matrix become one.
fn plan(
    source: &Checkpoint,
    fused: &BTreeMap<String, Vec<String>>,
    shard: &str,
    dtype: Option<FloatDtype>,
) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    let mut done = BTreeSet::new();
    for tensor in source.tensors_of(shard) {
        let encoded = tensor.rsplit_once(".weight_").map(|(module, _)| module).filter(|m| source.is_encoded(m));
        let module = encoded.or(tensor.strip_suffix(".weight"));
        let whole = fused.iter().find(|(_, parts)| parts.iter().any(|part| Some(part.as_str()) == module));
        let (name, modules) = match (whole, encoded) {
            (Some((whole, parts)), _) => (whole.as_str(), parts.clone()),
            (None, Some(module)) => (module, vec![module.to_owned()]),
            (None, None) => {
                steps.push(copied(source, tensor, dtype));
                continue;
            }
        };
        if done.insert(name.to_owned()) {
            steps.push(Step { spec: decoded(source, name, &modules, dtype)?, modules });
        }
    }
    Ok(steps)
}

fn copied(source: &Checkpoint, tensor: &str, dtype: Option<FloatDtype>) -> Step {
    let (found, shape) = source.raw(tensor).map_or((Dtype::U8, &[][..]), |(d, s, _)| (d, s));
    let dtype = match (dtype, FloatDtype::from_safetensors(found)) {
        (Some(dtype), Some(_)) => dtype.safetensors(),
        _ => found,
    };
    Step { spec: TensorSpec { name: tensor.to_owned(), dtype, shape: shape.to_vec() }, modules: Vec::new() }
}

/// The plain tensor of the rows of `modules`.
fn decoded(
    source: &Checkpoint,
    name: &str,
    modules: &[String],
    dtype: Option<FloatDtype>,
) -> Result<TensorSpec, Error> {
    let (mut rows, mut cols, mut dtypes) = (0_usize, None, BTreeSet::new());
    for module in modules {
        let shape = shape_of(source, module)?;
        rows = rows.saturating_add(shape[0]);
        dtypes.insert(dtype_of(source, module)?);
        if *cols.get_or_insert(shape[1]) != shape[1] {
            let message = format!("expected rows of {cols:?} weights to join in {name}, found {}", shape[1]);
            return Err(Error::tensor(source.config_path(), module, message));
        }
    }
    // Linears of a fused matrix have the same type, except in files that this crate did not write.
    let dtype = dtype.or(dtypes.first().copied().filter(|_| dtypes.len() == 1)).ok_or_else(|| {
        Error::tensor(source.config_path(), name, format!("expected parts of one type, found {dtypes:?}"))
    })?;
    let shape = vec![rows, cols.unwrap_or(0)];
    Ok(TensorSpec { name: format!("{name}.weight"), dtype: dtype.safetensors(), shape })
}

/// The type of a module before it was encoded, if it is encoded.
fn dtype_of(source: &Checkpoint, module: &str) -> Result<FloatDtype, Error> {
    match source.source_dtype(module) {
        Some(dtype) => Ok(dtype),
        None => Ok(source.plain(&format!("{module}.weight"))?.dtype),
    }
}

fn write(
    source: &Checkpoint,
    Step { spec, modules }: &Step,
    writer: &mut ShardWriter,
    progress: &dyn Fn(u64),
) -> Result<(), Error> {
    let float = FloatDtype::from_safetensors(spec.dtype);
    let mut push = |bytes: &[u8]| writer.write(&spec.name, bytes);
    if modules.is_empty() {
        return plain(source, &spec.name, float, &mut push, progress);
    }
    for module in modules {
        if !source.is_encoded(module) {
            plain(source, &format!("{module}.weight"), float, &mut push, progress)?;
            continue;
        }
        let encoded = source.encoded(module)?;
        for band in bands(encoded.shape()) {
            match float {
                Some(to) if to != encoded.source() => {
                    let mut weights = vec![0.0; band.len() * encoded.shape()[1]];
                    encoded.decode_rows(band, &mut weights);
                    push(&narrow(source, module, &weights, to)?)?;
                }
                _ => push(&encoded.bytes_of_rows(band))?,
            }
        }
        progress(source.bytes_of_module(module)? as u64);
    }
    Ok(())
}

/// A plain tensor's bytes, converted to type `to` if it is of another floating-point type.
fn plain(
    source: &Checkpoint,
    name: &str,
    to: Option<FloatDtype>,
    push: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    progress: &dyn Fn(u64),
) -> Result<(), Error> {
    let Some((dtype, _, bytes)) = source.raw(name) else { return Ok(()) };
    for piece in bytes.chunks(1 << 20) {
        match (to, FloatDtype::from_safetensors(dtype)) {
            (Some(to), Some(from)) if to != from => push(&narrow(source, name, &from.widen(piece), to)?)?,
            _ => push(piece)?,
        }
        progress(piece.len() as u64);
    }
    Ok(())
}

/// Rounds to a type; a finite number must not become infinite.
fn narrow(source: &Checkpoint, name: &str, weights: &[f32], to: FloatDtype) -> Result<Vec<u8>, Error> {
    match weights.iter().find(|w| w.is_finite() && to.round(**w).is_infinite()) {
        None => Ok(to.narrow(weights)),
        Some(weight) => {
            let message = format!("expected weights that {to:?} can hold, found {weight}");
            Err(Error::tensor(source.path_of(name), name, message))
        }
    }
}
