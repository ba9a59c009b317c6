//! A model and what to call it.

use qins_quant::checkpoint::Checkpoint;

/// A model's files, and what to call it in messages and reports.
#[derive(Debug)]
pub struct ModelSource {
    /// A directory, a name on the hub, or whatever a program calls it.
    pub name: String,
    /// Its configuration and weights.
    pub checkpoint: Checkpoint,
}
