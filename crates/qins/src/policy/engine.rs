//! Measurements that run the model: calibration, and the search for a mixture by the model's output.

use std::{cell::OnceCell, error::Error, path::Path};

use qins_burn::{Backend, BlockCalibration, Device, calibrate};
use qins_eval::{Candidates, Search, StandardCalibration, read_text, texts_of};
use qins_model::{
    CalibrationTexts, Conversion, Converted, Importance, LinearSpec, ModelConfig, ModelSource, Policy, TextReader,
};
use qins_quant::{
    Calibration,
    mixture::{self, Fits, Goal, Mixture},
};

use crate::{
    args::Target,
    load::{Loader, load_model, own_calibration, own_prompts},
    stages::{Bars, stage},
};

/// Runs models; a device is opened when it is first needed.
pub(crate) struct Engine<'a> {
    place: Where<'a>,
    /// What is calibrated on, once it is read: standard input cannot be read twice, and the standard calibration takes time.
    texts: OnceCell<CalibrationTexts>,
}

enum Where<'a> {
    Device(&'a Device),
    Backend(Backend),
}

impl<'a> Engine<'a> {
    /// Whether this build runs models.
    pub(super) const RUNS_MODELS: bool = true;

    /// On an open device.
    pub(crate) fn on(device: &'a Device) -> Self {
        Self { place: Where::Device(device), texts: OnceCell::new() }
    }

    /// On the device of a backend.
    pub(crate) fn of(backend: Backend) -> Self {
        Self { place: Where::Backend(backend), texts: OnceCell::new() }
    }

    fn device(&self) -> Result<Device, Box<dyn Error>> {
        match self.place {
            Where::Device(device) => Ok(device.clone()),
            Where::Backend(backend) => Ok(backend.device()?),
        }
    }

    /// The mean square of each linear's inputs on what is calibrated on, by the name of its module.
    pub(crate) fn importance(&self, file: Option<&Path>, source: &ModelSource) -> Result<Importance, Box<dyn Error>> {
        let CalibrationTexts { texts, .. } = self.calibration(file, source)?;
        let mut model = load_model(source, None, &self.device()?)?.model;
        let bar = stage(texts.len() as u64, "calibrating".to_owned());
        let importance = calibrate(&mut model, &texts, |done, _| bar.set_position(done as u64)).map_err(|e| {
            let name = file.map_or("the standard calibration".into(), |file| file.display().to_string());
            format!("{name}: {e}")
        })?;
        bar.finish_and_clear();
        Ok(importance.into_iter().map(|(module, means)| (module, means.into())).collect())
    }

    /// What to calibrate on: a text, or the standard calibration. A command has one, and one model.
    pub(super) fn calibration(
        &self,
        file: Option<&Path>,
        source: &ModelSource,
    ) -> Result<CalibrationTexts, Box<dyn Error>> {
        if let Some(texts) = self.texts.get() {
            return Ok(texts.clone());
        }
        let texts = self.read_calibration(file, source)?;
        Ok(self.texts.get_or_init(|| texts).clone())
    }

    fn read_calibration(&self, file: Option<&Path>, source: &ModelSource) -> Result<CalibrationTexts, Box<dyn Error>> {
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

    /// Gives the calibration of a policy, if it has one.
    pub(super) fn calibrated<T>(
        &self,
        source: &ModelSource,
        policy: &Policy,
        act: impl FnOnce(Option<&mut dyn Calibration>) -> Result<T, Box<dyn Error>>,
    ) -> Result<T, Box<dyn Error>> {
        let Some(texts) = &policy.calibration else { return act(None) };
        let effort = policy.recipe.options.effort;
        act(Some(&mut BlockCalibration::new(&source.checkpoint, texts, effort, &self.device()?)?))
    }

    /// Converts by a policy, with the calibration that it has.
    pub(crate) fn convert(
        &self,
        source: &ModelSource,
        policy: Policy,
        progress: impl Fn(u64),
        out: &Path,
    ) -> Result<Converted, Box<dyn Error>> {
        self.calibrated(source, &policy, |calibration| {
            let conversion = Conversion::of(&source.checkpoint)?.policy(policy.clone()).progress(progress);
            Ok(match calibration {
                None => conversion.write(out)?,
                Some(calibration) => conversion.calibration(calibration).write(out)?,
            })
        })
    }

    /// The mixture of fits for a goal: of `specs`, and of `fixed`, which are encoded too. `texts` were not calibrated on.
    pub(super) fn search(
        &self,
        target: Target,
        [specs, fixed]: [&[LinearSpec]; 2],
        fits: &Fits,
        texts: &[Vec<u32>],
        policy: &Policy,
        source: &ModelSource,
    ) -> Result<Mixture, Box<dyn Error>> {
        let candidates = Candidates { specs, fixed, fits };
        let loader = || Ok::<_, Box<dyn Error>>(Loader(self.device()?));
        let progress = &Bars::default();
        let search = |loader| Search { source, loader, own_prompts: own_prompts(source), texts, progress };
        match target {
            Target::Weights(Goal::Bits(bits)) if policy.calibration.is_some() => {
                Ok(search(&loader()?).within(bits, candidates)?)
            }
            Target::Weights(goal) => Ok(mixture::choose(fits.matrices(), goal)?),
            Target::Output(goal) => Ok(search(&loader()?).run(goal, candidates)?),
        }
    }
}
