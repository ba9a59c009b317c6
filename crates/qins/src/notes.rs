//! What is not used of a model, or not carried over from it.

use std::fmt::Display;

use qins_model::Unused;
use qins_quant::checkpoint::LeftOut;

use crate::progress::note;

/// Notes the tensors of a model that it does not use.
pub(crate) fn note_unused(model: impl Display, unused: &[Unused]) {
    list(model, "tensors the model does not use", unused);
}

/// Notes the files of a model that a result at another place does not have.
pub(crate) fn note_left_out(model: impl Display, left_out: &[LeftOut]) {
    list(model, "files that are not carried over", left_out);
}

fn list(model: impl Display, what: &str, items: &[impl Display]) {
    if !items.is_empty() {
        let items: Vec<String> = items.iter().map(ToString::to_string).collect();
        note(&format!("{model}: {what}: {}", items.join(", ")));
    }
}
