//! Loading models onto a device.

use qins_burn::{Device, Loaded, load};
use qins_eval::{BurnModel, EvalLoader, EvalModel, ModelError};
use qins_model::{ModelSource, Policy};
use qins_quant::checkpoint::Files;

use crate::{embedded, notes::note_unused, progress::progress};

/// Loads a model, with its plain linears encoded by `policy` if there is one.
pub(crate) fn load_model(
    source: &ModelSource,
    policy: Option<&Policy>,
    device: &Device,
) -> Result<Loaded, qins_burn::Error> {
    let what = policy.map_or("plain".to_owned(), |policy| policy.recipe.scheme.to_string());
    let bar = progress(0, format!("loading {what}"));
    let loaded = load(&source.checkpoint, policy, device, |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    note_unused(&source.name, &loaded.report.unused);
    Ok(loaded)
}

/// The embedded model's own prompts, if `source` is the embedded model.
pub(crate) fn own_prompts(source: &ModelSource) -> Option<(&'static str, &'static str)> {
    matches!(source.checkpoint.files(), Files::Embedded { .. }).then_some(embedded::ATLAS_PROMPTS)
}

/// More prompts to calibrate on, if `source` is the embedded model.
pub(crate) fn own_calibration(source: &ModelSource) -> Option<(&'static str, &'static str)> {
    matches!(source.checkpoint.files(), Files::Embedded { .. }).then_some(embedded::ATLAS_CALIBRATION)
}

/// Loads the models of an evaluation, with progress bars.
pub(crate) struct Loader(pub(crate) Device);

impl EvalLoader for Loader {
    fn load(&self, source: &ModelSource, policy: Option<&Policy>) -> Result<Box<dyn EvalModel>, ModelError> {
        Ok(Box::new(BurnModel::from(load_model(source, policy, &self.0)?)))
    }
}
