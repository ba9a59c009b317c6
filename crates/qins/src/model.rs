//! Opening models.

use std::{
    error::Error as StdError,
    path::{Path, PathBuf},
};

use qins_model::{Error, ModelSource};
use qins_quant::checkpoint::{Checkpoint, Files};

use crate::{args::ModelArgs, embedded, progress::note};

/// The weights in one file, and the index of those in several.
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Opens the model of `--model`, or the embedded one.
pub(crate) fn open(args: &ModelArgs) -> Result<ModelSource, Box<dyn StdError>> {
    if args.force_download() && args.model.as_deref().is_none_or(is_here) {
        return Err("expected a --model on the hub with --force-download, found another".into());
    }
    Ok(match &args.model {
        Some(model) => {
            let (name, dir) = locate(model, args.force_download())?;
            open_directory(name, dir)?
        }
        None => ModelSource::of_files("atlas (embedded)", embedded::files())?,
    })
}

/// Opens a directory, or a name on the hub.
pub(crate) fn open_named(model: &Path) -> Result<ModelSource, Error> {
    let (name, dir) = locate(model, false)?;
    open_directory(name, dir)
}

fn open_directory(name: String, dir: PathBuf) -> Result<ModelSource, Error> {
    let files = Files::Directory(dir);
    note_choice(&name, &files);
    ModelSource::of_files(name, files)
}

/// Notes which weights are read of a directory that has two.
pub(crate) fn note_choice(name: &str, files: &Files) {
    if [SINGLE, INDEX].iter().all(|file| files.contains(file)) {
        note(&format!("{name}: it has {SINGLE} and {INDEX}: as in Transformers, the single file is read"));
    }
}

/// The display name of a model, and its directory; a name on the hub is downloaded first.
#[cfg(feature = "hub")]
pub(crate) fn locate(model: &Path, force_download: bool) -> Result<(String, PathBuf), Error> {
    use std::sync::Arc;

    use indicatif::ProgressBar;
    use qins_model::{HubProgress, hub::HubBuilder};

    use crate::progress::bytes_progress;

    let mut bar: Option<(Arc<str>, ProgressBar)> = None;
    let hub = || HubBuilder::from_env()?.force_download(force_download).build();
    let (name, dir) = ModelSource::locate(model, hub, &mut |progress| match progress {
        HubProgress::Bytes { file, done, total, .. } => {
            if bar.as_ref().is_none_or(|(name, _)| *name != file) {
                bar = Some((file.clone(), bytes_progress(total, file.to_string())));
            }
            if let Some((_, bar)) = &bar {
                bar.set_position(done);
                if done == total {
                    bar.finish_and_clear();
                }
            }
        }
        HubProgress::Note(text) => note(&text.to_string()),
        _ => {}
    })?;
    if bar.is_some() {
        note(&format!("fetched {name}"));
    }
    Ok((name, dir))
}

/// The display name of a model, and its directory.
#[cfg(not(feature = "hub"))]
pub(crate) fn locate(model: &Path, _: bool) -> Result<(String, PathBuf), Error> {
    Ok((model.display().to_string(), model.to_owned()))
}

/// Whether a model is on this machine.
#[cfg(feature = "hub")]
fn is_here(model: &Path) -> bool {
    matches!(qins_model::ModelLocation::of(model), Ok(qins_model::ModelLocation::Path(_)))
}

/// Whether a model is on this machine.
#[cfg(not(feature = "hub"))]
fn is_here(_: &Path) -> bool {
    true
}

/// Whether a checkpoint is of a family that this program knows.
pub(crate) fn is_known(checkpoint: &Checkpoint) -> bool {
    qins_model::families().any(|family| checkpoint.config()["model_type"] == family)
}
