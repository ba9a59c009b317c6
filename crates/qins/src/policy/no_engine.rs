//! A build without Burn cannot run models: options that need it are errors.

use std::{error::Error, marker::PhantomData, path::Path};

use qins_model::{CalibrationTexts, Conversion, Converted, Importance, LinearSpec, ModelSource, OutputGoal, Policy};
use qins_quant::{
    Calibration,
    mixture::{self, Fits, Mixture},
};

use crate::args::Target;

/// Cannot run models.
pub(crate) struct Engine<'a>(PhantomData<&'a ()>);

fn missing<T>(option: &str) -> Result<T, Box<dyn Error>> {
    Err(format!("{option}: expected a build that runs models, found one without Burn: build with `--features flex`")
        .into())
}

impl Engine<'_> {
    /// Whether this build runs models.
    pub(super) const RUNS_MODELS: bool = false;

    pub(crate) fn none() -> Self {
        Self(PhantomData)
    }

    pub(super) fn importance(&self, _: Option<&Path>, _: &ModelSource) -> Result<Importance, Box<dyn Error>> {
        missing("--calibrate")
    }

    pub(super) fn calibration(&self, file: Option<&Path>, _: &ModelSource) -> Result<CalibrationTexts, Box<dyn Error>> {
        missing(if file.is_some() { "--calibrate" } else { "--effort" })
    }

    /// Without a calibration.
    pub(super) fn calibrated<T>(
        &self,
        _: &ModelSource,
        _: &Policy,
        act: impl FnOnce(Option<&mut dyn Calibration>) -> Result<T, Box<dyn Error>>,
    ) -> Result<T, Box<dyn Error>> {
        act(None)
    }

    pub(crate) fn convert(
        &self,
        source: &ModelSource,
        policy: Policy,
        progress: impl Fn(u64),
        out: &Path,
    ) -> Result<Converted, Box<dyn Error>> {
        Ok(Conversion::of(&source.checkpoint)?.policy(policy).progress(progress).write(out)?)
    }

    pub(super) fn search(
        &self,
        target: Target,
        _: [&[LinearSpec]; 2],
        fits: &Fits,
        _: &[Vec<u32>],
        _: &Policy,
        _: &ModelSource,
    ) -> Result<Mixture, Box<dyn Error>> {
        match target {
            Target::Weights(goal) => Ok(mixture::choose(fits.matrices(), goal)?),
            Target::Output(OutputGoal::Kl(_)) => missing("--target kl"),
            Target::Output(OutputGoal::Match(_)) => missing("--target match"),
        }
    }
}
