//! Checkpoints: a Hugging Face directory in safetensors, plain or encoded.
//!
//! An encoded linear `<module>` rests as `<module>.weight_packed`, with `<module>.weight_scale` and whatever else its
//! scheme has; `quantization_config` in `config.json` names the schemes and
//! the format's version. Everything else is as it was.

mod files;
mod layout;
mod reader;
mod shard;
mod writer;

pub use files::{Files, OpenFile};
pub use layout::{FORMAT_VERSION, Group, QuantizationConfig};
pub use reader::{Checkpoint, Plain};
pub use writer::{Directory, TensorSpec};
