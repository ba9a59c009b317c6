//! Converts a plain checkpoint into an encoded one, a band of rows at a time: memory grows neither with the model nor with
//! its tensors, except that the codes of one entropy-coded tensor are held until their size is known.

mod plan;
mod write;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::Path,
};

use serde_json::{Value, json};

use crate::{
    Calibration, Error, Recipe, Scheme,
    checkpoint::{
        Checkpoint, Coding, Directory, FORMAT_VERSION, Group, INDEX, LeftOut, QuantizationConfig, SINGLE, list,
    },
};

use plan::{Action, Step, plan};
pub(crate) use write::bands;

/// The rows of a stored matrix that are one linear, and how to store them.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The module's full name, without `.weight`.
    pub module: String,
    /// Its rows in the stored matrix.
    pub rows: Range<usize>,
    /// How to encode them; `None` leaves them plain.
    pub recipe: Option<Recipe>,
}

/// The linears in a tensor of this name and shape; see [`convert`].
pub type Parts<'a> = dyn Fn(&str, &[usize]) -> Option<Vec<Part>> + 'a;

/// Writes `source` to `out` with some of its linears encoded.
///
/// `parts` gives the linears in a tensor, in the order of their rows (`None`: not a linear, copied unchanged). A
/// fused matrix is split if any of its linears is encoded; all other tensors are copied bit for bit, and so
/// are the other files, in subdirectories too, except those that are returned. If anything is encoded other than [`Scheme::Lossless`],
/// tensors that are copied must be finite, which is checked first. `progress` is called with the bytes read since its last call.
///
/// # Errors
/// When `source` is already encoded, a file or tensor cannot be read, a tensor is not finite or cannot be encoded, or `out` cannot be written.
/// Then nothing is left at `out`.
pub fn convert(
    source: &Checkpoint,
    out: &Path,
    parts: &Parts<'_>,
    progress: &dyn Fn(u64),
) -> Result<Vec<LeftOut>, Error> {
    convert_without(source, out, parts, &BTreeMap::new(), None, None, progress)
}

/// As [`convert`], without some tensors that have the weights of others: `copies` has the name of each, and of the one it equals.
/// The `goal` that the schemes were chosen for, if they were by what the model writes, is noted in the result. With a `calibration`, linears are encoded in its order, by recipes with its importance and feedback as far as they use them.
///
/// # Errors
/// As [`convert`], when a copy differs from its original, and when the calibration fails.
pub fn convert_without(
    source: &Checkpoint,
    out: &Path,
    parts: &Parts<'_>,
    copies: &BTreeMap<String, String>,
    goal: Option<&str>,
    mut calibration: Option<&mut dyn Calibration>,
    progress: &dyn Fn(u64),
) -> Result<Vec<LeftOut>, Error> {
    if source.quantization().is_some() {
        return Err(Error::file(
            source.config_path(),
            "expected a plain checkpoint, found one that is encoded already",
        ));
    }
    copies.iter().try_for_each(|(copy, original)| source.expect_copy(copy, original))?;
    let carried = list(source)?;
    let shards: Vec<&str> = source.shards().collect();
    let plans = shards.iter().map(|shard| plan(source, shard, parts)).collect::<Result<Vec<_>, _>>()?;
    // An archive keeps every bit, whatever it means. Tensors that are encoded otherwise are checked as they are read.
    if !plans.iter().flatten().filter_map(Step::scheme).all(|scheme| scheme == Scheme::Lossless) {
        let copied: BTreeSet<&str> = plans.iter().flatten().filter_map(Step::copied).collect();
        copied.into_iter().try_for_each(|tensor| source.expect_finite(tensor))?;
    }
    let directory = Directory::create(out)?;
    let mut written = Written::default();
    let (mut steps, mut writers) = (Vec::new(), Vec::new());
    for (shard, mut plan) in shards.into_iter().zip(plans) {
        let all = plan.len();
        plan.retain(|step| !copies.contains_key(&step.tensor));
        // A shard of nothing but copies is not written.
        if plan.is_empty() && all > 0 {
            continue;
        }
        let (tensors, streams) = plan::specs(&plan);
        for spec in tensors.iter().chain(&streams) {
            if written.weight_map.insert(spec.name.clone(), shard.to_owned()).is_some() {
                let message = "expected once in what is written, found twice";
                return Err(Error::tensor(source.files().path(shard), &spec.name, message));
            }
        }
        steps.extend(plan.into_iter().map(|step| (writers.len(), step)));
        writers.push(directory.shard_like(source, shard, tensors, streams)?);
    }
    let mut order: Vec<&(usize, Step)> = steps.iter().collect();
    if let Some(calibration) = &calibration {
        // What needs no calibration first; the sort is stable.
        order.sort_by_key(|(_, step)| step.encoded().and_then(|module| calibration.place(module)));
    }
    for (writer, step) in order {
        let calibrated = calibration.as_mut().map(|calibration| &mut **calibration as &mut dyn Calibration);
        if let Some(decibels) = write::step(source, step, calibrated, &mut writers[*writer], progress)? {
            written.output_sqnr_db.extend(step.encoded().map(|module| (module.to_owned(), decibels)));
        }
    }
    steps.into_iter().for_each(|(_, step)| written.note(step.tensor, step.action));
    for writer in writers {
        written.bytes += writer.finish()?.values().sum::<usize>();
    }
    written.expect_apart(source)?;
    directory.carry(source, &carried)?;
    write_index(&directory, source, &written.weight_map, written.bytes)?;
    let mut config = source.config().clone();
    if let Value::Object(config) = &mut config {
        config.insert("quantization_config".to_owned(), json!(written.quantization(copies, goal)));
    }
    directory.write("config.json", pretty(&config).as_bytes())?;
    directory.commit()?;
    Ok(carried.left_out)
}

/// The content of the files so far.
#[derive(Default)]
struct Written {
    /// Modules, grouped by how they are stored.
    groups: Vec<Group>,
    ignore: Vec<String>,
    fused: BTreeMap<String, Vec<String>>,
    output_sqnr_db: BTreeMap<String, f64>,
    /// Tensor → shard.
    weight_map: BTreeMap<String, String>,
    bytes: usize,
}

impl Written {
    fn note(&mut self, tensor: String, action: Action) {
        let (module, fused) = match action {
            Action::Copy { modules, .. } => return self.ignore.extend(modules),
            Action::CopyRows { module, fused, .. } => {
                self.ignore.push(module.clone());
                (module, fused)
            }
            Action::Encode { module, recipe, dtype, fused, .. } => {
                let group = Group {
                    targets: Vec::new(),
                    scheme: recipe.scheme,
                    source_dtype: dtype,
                    alpha: recipe.options.alpha.map(qins_codec::Alpha::get),
                    coding: recipe.is_coded().then_some(Coding::Pco),
                };
                let alike = |g: &Group| Group { targets: Vec::new(), ..g.clone() } == group;
                let place = self.groups.iter().position(alike).unwrap_or_else(|| {
                    self.groups.push(group);
                    self.groups.len() - 1
                });
                self.groups[place].targets.push(module.clone());
                (module, fused)
            }
        };
        if fused {
            self.fused.entry(tensor.trim_end_matches(".weight").to_owned()).or_default().push(module);
        }
    }

    /// An encoded module must not have a plain tensor of the same name too.
    fn expect_apart(&self, source: &Checkpoint) -> Result<(), Error> {
        let plain = |module: &String| format!("{module}.weight");
        let mut modules = self.groups.iter().flat_map(|group| &group.targets);
        match modules.find(|module| self.weight_map.contains_key(&plain(module))) {
            None => Ok(()),
            Some(module) => {
                let message = format!("expected none, as {module} is encoded, found one");
                Err(Error::tensor(source.path_of(&plain(module)), plain(module), message))
            }
        }
    }

    fn quantization(mut self, copies: &BTreeMap<String, String>, goal: Option<&str>) -> QuantizationConfig {
        self.groups.sort_by(|a, b| {
            let key = |g: &Group| (g.scheme, g.source_dtype, g.coding.is_some(), g.alpha.map(f32::to_bits));
            key(a).cmp(&key(b))
        });
        QuantizationConfig {
            quant_method: "qins".to_owned(),
            format_version: FORMAT_VERSION,
            config_groups: self.groups.into_iter().enumerate().map(|(i, g)| (format!("group_{i}"), g)).collect(),
            ignore: self.ignore,
            fused: self.fused,
            copies: copies.clone(),
            output_sqnr_db: self.output_sqnr_db,
            goal: goal.map(str::to_owned),
        }
    }
}

/// The index, if `source` has more than one shard, with what else that of `source` says.
pub(crate) fn write_index(
    directory: &Directory,
    source: &Checkpoint,
    weight_map: &BTreeMap<String, String>,
    bytes: usize,
) -> Result<(), Error> {
    if source.shards().eq([SINGLE]) {
        return Ok(());
    }
    let mut index: Value = source.files().read_json(INDEX)?;
    if !index["metadata"].is_object() {
        index["metadata"] = json!({});
    }
    index["metadata"]["total_size"] = json!(bytes);
    index["weight_map"] = json!(weight_map);
    directory.write(INDEX, pretty(&index).as_bytes())
}

pub(crate) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
