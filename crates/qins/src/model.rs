//! Opening models.

use std::error::Error;

use qins_model::ModelSource;
use qins_quant::checkpoint::{Checkpoint, Files};

use crate::{
    args::ModelArgs,
    embedded,
    hub::{self, Fetched, HubName},
};

/// Opens the model that is named, or the embedded one.
pub(crate) fn open(args: &ModelArgs) -> Result<ModelSource, Box<dyn Error>> {
    let (name, files) = match &args.model {
        Some(model) => match HubName::of(model) {
            Some(name) => {
                let Fetched { dir, commit } = hub::fetch(&name)?;
                (format!("{}@{commit}", name.repository()), Files::Directory(dir))
            }
            None => (model.display().to_string(), Files::Directory(model.clone())),
        },
        None => ("atlas (embedded)".to_owned(), embedded::files()),
    };
    Ok(ModelSource { name, checkpoint: Checkpoint::open(files)? })
}
