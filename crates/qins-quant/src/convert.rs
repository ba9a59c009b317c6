//! One checkpoint into another, one tensor in memory.

use std::{collections::BTreeMap, ops::Range, path::Path};

use serde_json::{Value, json};

use crate::{
    EncodeOptions, EncodedTensor, Error, Scheme,
    checkpoint::{Checkpoint, Directory, FORMAT_VERSION, Group, QuantizationConfig, TensorSpec},
};

/// Rows of a stored matrix that are one linear module, and how they shall rest.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The module's full name, without `.weight`.
    pub module: String,
    /// Its rows in the stored matrix.
    pub rows: Range<usize>,
    /// `None` leaves them as they are.
    pub scheme: Option<Scheme>,
}

/// What linears a tensor of this name and shape holds; [`convert`] says how it is asked.
pub type Parts<'a> = dyn Fn(&str, &[usize]) -> Option<Vec<Part>> + 'a;

/// Writes `source` to `out` with some of its linears encoded.
///
/// `parts` says of a tensor which linears it holds, in the order of their rows (`None`: no linear, copied as it is). A
/// fused matrix of which any part is encoded is split into its parts; all other tensors are copied bit for bit, and so
/// are the files beside the weights. `progress` is called with the bytes read since its last call.
///
/// # Errors
/// When `source` is encoded already, a tensor cannot be read or encoded, or `out` cannot be written. Nothing is left
/// at `out` then.
pub fn convert(
    source: &Checkpoint,
    out: &Path,
    options: &EncodeOptions,
    parts: &Parts<'_>,
    progress: &dyn Fn(u64),
) -> Result<(), Error> {
    if source.quantization().is_some() {
        return Err(Error::file(
            source.config_path(),
            "expected a plain checkpoint, found one that is encoded already",
        ));
    }
    let directory = Directory::create(out)?;
    let mut groups: BTreeMap<(Scheme, crate::FloatDtype), Vec<String>> = BTreeMap::new();
    let mut ignore = Vec::new();
    let mut weight_map = BTreeMap::new();
    let mut total = 0;
    let shards: Vec<&str> = source.shards().collect();
    for shard in &shards {
        let plan = plan(source, shard, parts)?;
        let specs: Vec<TensorSpec> = plan.iter().flat_map(|step| step.specs.iter().cloned()).collect();
        total += specs.iter().map(TensorSpec::bytes).sum::<usize>();
        for spec in &specs {
            if weight_map.insert(spec.name.clone(), (*shard).to_owned()).is_some() {
                let message = "expected once in what is written, found twice";
                return Err(Error::tensor(source.files().path(shard), &spec.name, message));
            }
        }
        let mut writer = directory.shard(shard, specs)?;
        for Step { tensor, specs, encode } in plan {
            let (_, _, bytes) =
                source.raw(&tensor).ok_or_else(|| Error::file(source.path_of(&tensor), "changed while read"))?;
            let read = match encode {
                Encode::No { modules, rows } => {
                    let read = rows.len();
                    writer.write(&specs[0].name, &bytes[rows])?;
                    ignore.extend(modules);
                    read
                }
                Encode::Rows { part, scheme, shape } => {
                    let plain = source.plain(&tensor)?;
                    let row = shape[1] * plain.dtype.size();
                    let weights = plain.dtype.widen(&bytes[part.rows.start * row..part.rows.end * row]);
                    let encoded = EncodedTensor::encode(&weights, shape, plain.dtype, scheme, options)
                        .map_err(|e| Error::tensor(plain.path, &tensor, e))?;
                    for (spec, bytes) in specs.iter().zip(encoded.codes().stored()) {
                        writer.write(&spec.name, &bytes)?;
                    }
                    groups.entry((scheme, plain.dtype)).or_default().push(part.module);
                    part.rows.len() * row
                }
            };
            progress(read as u64);
        }
        writer.finish()?;
    }
    if let Some(module) = groups.values().flatten().find(|m| weight_map.contains_key(&format!("{m}.weight"))) {
        let message = format!("expected none, as {module} is encoded, found one");
        return Err(Error::tensor(source.path_of(&format!("{module}.weight")), format!("{module}.weight"), message));
    }
    copy_other_files(source, &directory, &shards)?;
    if shards.len() > 1 || shards.first() != Some(&"model.safetensors") {
        let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
        directory.write("model.safetensors.index.json", pretty(&index).as_bytes())?;
    }
    let alpha = options.alpha.map(qins_codec::Alpha::get);
    let quantization = QuantizationConfig {
        quant_method: "qins".to_owned(),
        format_version: FORMAT_VERSION,
        config_groups: groups
            .into_iter()
            .enumerate()
            .map(|(i, ((scheme, source_dtype), targets))| {
                (format!("group_{i}"), Group { targets, scheme, source_dtype, alpha })
            })
            .collect(),
        ignore,
    };
    let mut config = source.config().clone();
    if let Value::Object(config) = &mut config {
        config.insert("quantization_config".to_owned(), json!(quantization));
    }
    directory.write("config.json", pretty(&config).as_bytes())?;
    directory.commit()
}

/// What is done with (a part of) one stored tensor.
struct Step {
    tensor: String,
    specs: Vec<TensorSpec>,
    encode: Encode,
}

enum Encode {
    /// Copied: these bytes, and the linears they are, if any.
    No { modules: Vec<String>, rows: Range<usize> },
    /// Encoded: rows that become a matrix of this shape.
    Rows { part: Part, scheme: Scheme, shape: [usize; 2] },
}

fn plan(source: &Checkpoint, shard: &str, parts: &Parts<'_>) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    for tensor in source.tensors_of(shard) {
        let Some((dtype, shape, bytes)) = source.raw(tensor) else { continue };
        let linears = parts(tensor, shape).unwrap_or_default();
        if linears.iter().all(|part| part.scheme.is_none()) {
            let specs = vec![TensorSpec { name: tensor.to_owned(), dtype, shape: shape.to_vec() }];
            // A fused matrix left whole is ignored under each of its names.
            let modules = linears.into_iter().map(|part| part.module).collect();
            let encode = Encode::No { modules, rows: 0..bytes.len() };
            steps.push(Step { tensor: tensor.to_owned(), specs, encode });
            continue;
        }
        let &[total, cols @ (1..)] = shape else {
            return Err(Error::tensor(
                source.path_of(tensor),
                tensor,
                format!("expected a matrix, found shape {shape:?}"),
            ));
        };
        source.plain(tensor)?;
        let row = bytes.len() / total.max(1);
        let mut next = 0;
        for part in linears {
            if part.rows.start != next || !(next..=total).contains(&part.rows.end) {
                let message =
                    format!("expected rows from {next} on within {total}, found {:?} for {}", part.rows, part.module);
                return Err(Error::tensor(source.path_of(tensor), tensor, message));
            }
            next = part.rows.end;
            let shape = [part.rows.len(), cols];
            let (specs, encode) = match part.scheme {
                None => (
                    vec![TensorSpec { name: format!("{}.weight", part.module), dtype, shape: shape.to_vec() }],
                    Encode::No { rows: part.rows.start * row..part.rows.end * row, modules: vec![part.module] },
                ),
                Some(scheme) => (scheme.tensors(&part.module, shape), Encode::Rows { part, scheme, shape }),
            };
            steps.push(Step { tensor: tensor.to_owned(), specs, encode });
        }
        if next != total {
            let message = format!("expected its linears to have {total} rows, found {next}");
            return Err(Error::tensor(source.path_of(tensor), tensor, message));
        }
    }
    Ok(steps)
}

/// Tokenizer, generation settings, licence: whatever lies beside the weights.
fn copy_other_files(source: &Checkpoint, directory: &Directory, shards: &[&str]) -> Result<(), Error> {
    let weights = |name: &str| {
        [".safetensors", ".bin", ".pt", ".pth", ".gguf", ".index.json"].iter().any(|suffix| name.ends_with(suffix))
    };
    for name in source.files().names()? {
        if name != "config.json" && !weights(&name) && !shards.contains(&name.as_str()) {
            directory.write(&name, &source.files().read(&name)?)?;
        }
    }
    Ok(())
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
