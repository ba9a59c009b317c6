//! A checkpoint on disk into an encoded one.

use std::path::Path;

use qins_quant::{
    Recipe,
    checkpoint::{Checkpoint, Files},
    convert::convert,
};

use crate::{Error, ModelConfig, Override, Policy, Targets, check_plain};

/// A checkpoint to be encoded. What is not said is as `q8` of all linears but q, k, the embedding and the head.
///
/// The result is a Hugging Face directory again: encoded linears are stored as `<module>.weight_packed` with their parameters, all
/// else is copied bit for bit, and `quantization_config` in `config.json` says which is which. It appears whole or not at all.
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
    progress: Box<dyn Fn(u64) + 'a>,
}

/// What a conversion wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Converted {
    /// Bytes of all tensors of the source.
    pub bytes_before: usize,
    /// Bytes of all tensors that were written.
    pub bytes_after: usize,
}

impl<'a> Conversion<'a> {
    /// A conversion of `checkpoint`.
    ///
    /// # Errors
    /// When it is encoded already, of a kind of model that is not known, or lacks one of its model's tensors.
    pub fn of(checkpoint: &'a Checkpoint) -> Result<Self, Error> {
        let config = ModelConfig::of(checkpoint)?;
        check_plain(checkpoint, &config)?;
        let policy = Policy::new(Targets::Safe, qins_quant::Scheme::Q8);
        Ok(Self { checkpoint, config, policy, progress: Box::new(|_| {}) })
    }

    /// The scheme, or all that can be said of how: a [`Recipe`].
    pub fn scheme(mut self, recipe: impl Into<Recipe>) -> Self {
        self.policy.recipe = recipe.into();
        self
    }

    /// Which linears are encoded.
    pub fn targets(mut self, targets: Targets) -> Self {
        self.policy.targets = targets;
        self
    }

    /// An exception for some linears; the last that matches decides.
    pub fn exception(mut self, exception: Override) -> Self {
        self.policy.overrides.push(exception);
        self
    }

    /// All of it at once.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Calls `progress` with the bytes read since the last call.
    pub fn progress(mut self, progress: impl Fn(u64) + 'a) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Encodes a band of rows at a time and writes the result to `out`: a directory that does not exist yet, or is empty.
    ///
    /// # Errors
    /// When the targets or an exception name no linear, a weight cannot be read or encoded, or `out` cannot be written. Nothing is
    /// left at `out` then.
    pub fn write(self, out: impl AsRef<Path>) -> Result<Converted, Error> {
        let (checkpoint, out) = (self.checkpoint, out.as_ref());
        self.policy.check(&self.config)?;
        convert(checkpoint, out, &self.policy.parts(&self.config), &*self.progress)?;
        let written = Checkpoint::open(Files::Directory(out.to_owned()))?;
        Ok(Converted { bytes_before: checkpoint.tensor_bytes(), bytes_after: written.tensor_bytes() })
    }
}
