//! What to do with each stored tensor, planned before any is read.

use std::ops::Range;

use super::{Part, Parts};
use crate::{
    Error, FloatDtype, Recipe, Scheme,
    checkpoint::{Checkpoint, MatrixWriter, TensorSpec},
};

/// What to do with one stored tensor, or with a part of it.
pub(super) struct Step {
    pub(super) tensor: String,
    pub(super) action: Action,
}

impl Step {
    /// The tensor, if it is copied, whole or in part.
    pub(super) fn copied(&self) -> Option<&str> {
        match self.action {
            Action::Copy { .. } | Action::CopyRows { .. } => Some(&self.tensor),
            Action::Encode { .. } => None,
        }
    }

    /// The module, if it is encoded.
    pub(super) fn encoded(&self) -> Option<&str> {
        match &self.action {
            Action::Encode { module, .. } => Some(module),
            Action::Copy { .. } | Action::CopyRows { .. } => None,
        }
    }

    /// The scheme, if it is encoded.
    pub(super) fn scheme(&self) -> Option<Scheme> {
        match &self.action {
            Action::Encode { recipe, .. } => Some(recipe.scheme),
            Action::Copy { .. } | Action::CopyRows { .. } => None,
        }
    }
}

pub(super) enum Action {
    /// Copy it whole. With its linears, if any: a fused matrix that stays whole is listed as plain under each linear's name.
    Copy { spec: TensorSpec, modules: Vec<String> },
    /// Copy rows under the linear's own name.
    CopyRows { module: String, spec: TensorSpec, bytes: Range<usize>, fused: bool },
    /// Encode rows, `[rows.len(), cols]` of type `dtype`.
    Encode { module: String, recipe: Recipe, rows: Range<usize>, cols: usize, dtype: FloatDtype, fused: bool },
}

/// The tensors of known size, and the streams with upper bounds of their sizes.
pub(super) fn specs(plan: &[Step]) -> (Vec<TensorSpec>, Vec<TensorSpec>) {
    let (mut tensors, mut streams) = (Vec::new(), Vec::new());
    for step in plan {
        match &step.action {
            Action::Copy { spec, .. } | Action::CopyRows { spec, .. } => tensors.push(spec.clone()),
            Action::Encode { module, recipe, rows, cols, dtype, .. } => {
                let format = recipe.format(*dtype, *cols);
                let [sized, coded] = MatrixWriter::new(module, &format, rows.len(), recipe.is_coded()).specs();
                tensors.extend(sized);
                streams.extend(coded);
            }
        }
    }
    (tensors, streams)
}

/// The steps for one shard's tensors, in their order.
pub(super) fn plan(source: &Checkpoint, shard: &str, linears_of: &Parts<'_>) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    for tensor in source.tensors_of(shard) {
        let Some((dtype, shape, bytes)) = source.raw(tensor) else { continue };
        let mut step = |action| steps.push(Step { tensor: tensor.to_owned(), action });
        let linears = linears_of(tensor, shape).unwrap_or_default();
        if linears.iter().all(|part| part.recipe.is_none()) {
            let spec = TensorSpec { name: tensor.to_owned(), dtype, shape: shape.to_vec() };
            step(Action::Copy { spec, modules: linears.into_iter().map(|part| part.module).collect() });
            continue;
        }
        let error = |message| Error::tensor(source.path_of(tensor), tensor, message);
        let &[total, cols @ (1..)] = shape else {
            return Err(error(format!("expected a matrix, found shape {shape:?}")));
        };
        let float = source.plain(tensor)?.dtype;
        let row = bytes.len() / total.max(1);
        let fused = linears.len() > 1 || linears.iter().any(|part| format!("{}.weight", part.module) != tensor);
        let mut next = 0;
        for Part { module, rows, recipe } in linears {
            if rows.start != next || !(next..=total).contains(&rows.end) {
                return Err(error(format!("expected rows from {next} on within {total}, found {rows:?} for {module}")));
            }
            next = rows.end;
            step(match recipe {
                None => {
                    let name = format!("{module}.weight");
                    let spec = TensorSpec { name, dtype, shape: vec![rows.len(), cols] };
                    Action::CopyRows { module, spec, bytes: rows.start * row..rows.end * row, fused }
                }
                Some(recipe) => Action::Encode { module, recipe, rows, cols, dtype: float, fused },
            });
        }
        if next != total {
            return Err(error(format!("expected its linears to have {total} rows, found {next}")));
        }
    }
    Ok(steps)
}
