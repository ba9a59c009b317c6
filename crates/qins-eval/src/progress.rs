//! What is told of long work while it goes on.

/// Is told of long work while it goes on. Stages may be nested. `()` ignores all of it.
pub trait Progress: Sync {
    /// A stage of `steps` steps begins.
    fn begin(&self, stage: &str, steps: usize);

    /// A step of the innermost stage is done.
    fn step(&self);

    /// The innermost stage is over.
    fn end(&self);

    /// Something that a user should know, in one sentence.
    fn note(&self, text: &str);
}

impl Progress for () {
    fn begin(&self, _: &str, _: usize) {}
    fn step(&self) {}
    fn end(&self) {}
    fn note(&self, _: &str) {}
}

/// A stage that ends when it is dropped, also by an error.
pub(crate) struct Stage<'a>(&'a dyn Progress);

impl<'a> Stage<'a> {
    pub(crate) fn begin(progress: &'a dyn Progress, name: &str, steps: usize) -> Self {
        progress.begin(name, steps);
        Self(progress)
    }

    pub(crate) fn step(&self) {
        self.0.step();
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
