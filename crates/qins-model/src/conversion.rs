//! Conversion of a checkpoint into an encoded one.

use std::path::Path;

use qins_quant::{
    Calibration, Recipe,
    checkpoint::{Checkpoint, Files, LeftOut},
    convert::convert_without,
};

use crate::{Error, ModelConfig, Override, Policy, Targets, Unused, check_plain, unused};

/// The conversion of a plain checkpoint into an encoded one, as a builder. Defaults: scheme `q8`, [`Targets::Safe`].
///
/// The result is a Hugging Face directory: encoded linears are stored as `<module>.weight_packed` with their parameters, all other
/// tensors are copied bit for bit, but for a head that equals the embedding it is tied to, and `quantization_config` in `config.json` lists the scheme of each linear. It appears complete or
/// not at all.
///
/// ```no_run
/// use qins_model::{Conversion, Targets};
/// use qins_quant::{Scheme, checkpoint::{Checkpoint, Files}};
///
/// let checkpoint = Checkpoint::open(Files::Directory("Phi-3.5-mini-instruct".into()))?;
/// let written = Conversion::of(&checkpoint)?.scheme(Scheme::Q4).targets(Targets::All).write("Phi-3.5-q4")?;
/// println!("{} bytes → {}", written.bytes_before, written.bytes_after);
/// # Ok::<(), qins_model::Error>(())
/// ```
pub struct Conversion<'a> {
    checkpoint: &'a Checkpoint,
    config: ModelConfig,
    policy: Policy,
    calibration: Option<&'a mut dyn Calibration>,
    progress: Box<dyn Fn(u64) + 'a>,
}

/// The result of a conversion.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Converted {
    /// Bytes of all tensors of the source.
    pub bytes_before: usize,
    /// Bytes of all tensors of the result.
    pub bytes_after: usize,
    /// Tensors that the model does not read: copied, except copies of others.
    pub unused: Vec<Unused>,
    /// Files of the source that were not copied.
    pub left_out: Vec<LeftOut>,
}

impl<'a> Conversion<'a> {
    /// A conversion of `checkpoint`.
    ///
    /// # Errors
    /// When it is already encoded, its model is not supported, or a tensor is missing.
    pub fn of(checkpoint: &'a Checkpoint) -> Result<Self, Error> {
        let config = ModelConfig::of(checkpoint)?;
        check_plain(checkpoint, &config)?;
        let policy = Policy::new(Targets::Safe, qins_quant::Scheme::Q8);
        Ok(Self { checkpoint, config, policy, calibration: None, progress: Box::new(|_| {}) })
    }

    /// Sets the scheme, or a [`Recipe`] with all options.
    pub fn scheme(mut self, recipe: impl Into<Recipe>) -> Self {
        self.policy.recipe = recipe.into();
        self
    }

    /// Sets which linears are encoded.
    pub fn targets(mut self, targets: Targets) -> Self {
        self.policy.targets = targets;
        self
    }

    /// Adds an override for some linears; the last match decides.
    pub fn exception(mut self, exception: Override) -> Self {
        self.policy.overrides.push(exception);
        self
    }

    /// Sets targets, recipe, overrides and importance at once.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets what is known of the inputs of the linears, from which error feedback and importance are computed; by default each weight
    /// is rounded by itself.
    pub fn calibration(mut self, calibration: &'a mut dyn Calibration) -> Self {
        self.calibration = Some(calibration);
        self
    }

    /// Sets a function that is called with the number of bytes read since its last call.
    pub fn progress(mut self, progress: impl Fn(u64) + 'a) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Encodes the checkpoint, a band of rows at a time, and writes it to `out`: a directory that does not exist yet, or is empty.
    ///
    /// # Errors
    /// When the targets or an override match no linear, a weight cannot be read or encoded, the calibration fails, or `out` cannot be written. Then
    /// nothing is left at `out`.
    pub fn write(self, out: impl AsRef<Path>) -> Result<Converted, Error> {
        let (checkpoint, out) = (self.checkpoint, out.as_ref());
        self.policy.check(&self.config)?;
        let unused = unused(checkpoint, &self.config)?;
        let copies = unused.iter().filter_map(|unused| match unused {
            Unused::Copy { tensor, original } => Some((tensor.clone(), original.clone())),
            Unused::Other(_) => None,
        });
        let parts = self.policy.parts(&self.config);
        let (copies, goal) = (copies.collect(), self.policy.goal.as_deref());
        let left_out = convert_without(checkpoint, out, &parts, &copies, goal, self.calibration, &*self.progress)?;
        let written = Checkpoint::open(Files::Directory(out.to_owned()))?;
        let (bytes_before, bytes_after) = (checkpoint.tensor_bytes(), written.tensor_bytes());
        Ok(Converted { bytes_before, bytes_after, unused, left_out })
    }
}
