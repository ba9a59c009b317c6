//! Progress of long work, and its cancellation.

use crate::Error;

/// Receives the progress of long work, such as for progress bars. `()` ignores it.
///
/// Stages nest: every [`begin`](Self::begin) is followed by one [`end`](Self::end), also when the work fails, and the innermost
/// stage ends first.
pub trait Progress: Sync {
    /// A stage of `steps` steps begins inside those that are open.
    fn begin(&self, stage: &str, steps: usize);

    /// One step of the innermost open stage is done.
    fn step(&self);

    /// The innermost open stage ends.
    fn end(&self);

    /// A message for the user, in one sentence.
    fn note(&self, text: &str);

    /// Whether the work is to stop, such as after Ctrl-C; it is asked after every step and every generated token. An evaluation
    /// then gives what it has measured so far, and other work ends with [`Error::Interrupted`].
    fn is_cancelled(&self) -> bool {
        false
    }
}

impl Progress for () {
    fn begin(&self, _: &str, _: usize) {}
    fn step(&self) {}
    fn end(&self) {}
    fn note(&self, _: &str) {}
}

/// An open stage; it ends when dropped, also when an error returns early.
pub(crate) struct Stage<'a>(&'a dyn Progress);

impl<'a> Stage<'a> {
    pub(crate) fn begin(progress: &'a dyn Progress, name: &str, steps: usize) -> Self {
        progress.begin(name, steps);
        Self(progress)
    }

    /// One step is done.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when the work is to stop.
    pub(crate) fn step(&self) -> Result<(), Error> {
        self.0.step();
        if self.0.is_cancelled() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
