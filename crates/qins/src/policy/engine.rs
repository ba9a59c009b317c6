//! Measurements that run the model: calibration, and the search for a mixture by the model's output.

use std::{error::Error, path::Path};

use qins_burn::{Backend, BlockCalibration, Device, calibrate};
use qins_eval::{Search, StandardCalibration, read_text, texts_of};
use qins_model::{
    CalibrationTexts, Conversion, Converted, Importance, LinearSpec, ModelConfig, ModelSource, OutputGoal, Policy,
    TextReader,
};
use qins_quant::mixture::{Matrix, Mixture};

use crate::{
    load::{Loader, load_model, own_calibration, own_prompts},
    stages::{Bars, stage},
};

/// Tokens of a calibration sequence.
const CHUNK: usize = 512;

/// Runs models; a device is opened when it is first needed.
pub(crate) struct Engine<'a>(Where<'a>);

enum Where<'a> {
    Device(&'a Device),
    Backend(Backend),
}

impl<'a> Engine<'a> {
    /// Whether this build runs models.
    pub(super) const RUNS_MODELS: bool = true;

    /// On an open device.
    pub(crate) fn on(device: &'a Device) -> Self {
        Self(Where::Device(device))
    }

    /// On the device of a backend.
    pub(crate) fn of(backend: Backend) -> Self {
        Self(Where::Backend(backend))
    }

    fn device(&self) -> Result<Device, Box<dyn Error>> {
        match self.0 {
            Where::Device(device) => Ok(device.clone()),
            Where::Backend(backend) => Ok(backend.device()?),
        }
    }

    /// Calibrates: runs the plain model on a text, and gives the mean square of each linear's inputs.
    pub(super) fn importance(&self, file: &Path, source: &ModelSource) -> Result<Importance, Box<dyn Error>> {
        let name = file.display();
        let (_, text) = read_text(file)?;
        let reader = TextReader::open(source.checkpoint.files())?;
        let tokenizer = reader.tokenizer().map_err(|e| format!("{name}: {e}"))?;
        let ids = tokenizer.encode(&text, false).map_err(|e| format!("{name}: {e}"))?;
        let mut model = load_model(source, None, &self.device()?)?.model;
        let chunk = CHUNK.min(model.config().max_position_embeddings);
        // Each sequence begins as every text does.
        let prefix = tokenizer.prefix();
        let own = chunk.saturating_sub(prefix.len()).max(1);
        let texts: Vec<Vec<u32>> = ids.chunks(own).map(|ids| [prefix, ids].concat()).collect();
        let bar = stage(texts.len() as u64, "calibrating".to_owned());
        let importance = calibrate(&mut model, &texts, |done, _| bar.set_position(done as u64))
            .map_err(|e| format!("{name}: {e}"))?;
        bar.finish_and_clear();
        Ok(importance.into_iter().map(|(module, means)| (module, means.into())).collect())
    }

    /// What to calibrate error feedback on: a text, or the standard calibration.
    pub(super) fn calibration(
        &self,
        file: Option<&Path>,
        source: &ModelSource,
    ) -> Result<CalibrationTexts, Box<dyn Error>> {
        let Some(file) = file else {
            let loader = &Loader(self.device()?);
            let (own_prompts, progress) = (own_calibration(source), &Bars::default());
            return Ok(StandardCalibration { source, loader, own_prompts, progress }.texts()?);
        };
        let (name, text) = read_text(file)?;
        let (reader, config) = (TextReader::open(source.checkpoint.files())?, ModelConfig::of(&source.checkpoint)?);
        let texts = texts_of(&text, &name, &reader, &config)?;
        if texts.texts.is_empty() {
            return Err(format!("{name}: {}", qins_burn::Error::NoTexts).into());
        }
        Ok(texts)
    }

    /// Converts by a policy, with the calibration that it has.
    pub(crate) fn convert(
        &self,
        source: &ModelSource,
        policy: Policy,
        progress: impl Fn(u64),
        out: &Path,
    ) -> Result<Converted, Box<dyn Error>> {
        let conversion = Conversion::of(&source.checkpoint)?.policy(policy.clone()).progress(progress);
        let Some(texts) = &policy.calibration else { return Ok(conversion.write(out)?) };
        let effort = policy.recipe.options.effort;
        let mut calibration = BlockCalibration::new(&source.checkpoint, texts, effort, &self.device()?)?;
        Ok(conversion.calibration(&mut calibration).write(out)?)
    }

    /// The mixture with the fewest bits that reaches `goal`.
    pub(super) fn search(
        &self,
        goal: OutputGoal,
        policy: &Policy,
        specs: &[LinearSpec],
        matrices: &[Matrix],
        source: &ModelSource,
    ) -> Result<Mixture, Box<dyn Error>> {
        let search = Search {
            source,
            loader: &Loader(self.device()?),
            own_prompts: own_prompts(source),
            progress: &Bars::default(),
        };
        Ok(search.run(goal, policy, specs, matrices)?)
    }
}
