//! Checkpoints: a Hugging Face directory in safetensors, plain or encoded.
//!
//! An encoded linear `<module>` is stored as `<module>.weight_packed`, `<module>.weight_shape` and the other tensors of its
//! scheme; `quantization_config` in `config.json` has the schemes and the format version. All else is unchanged.

mod carry;
mod copies;
mod directory;
mod files;
mod header;
mod layout;
mod matrix;
mod modules;
mod reader;
mod shard;
mod single;
mod writer;

pub use crate::dtype::Dtype;
pub use carry::LeftOut;
pub(crate) use carry::list;
pub use directory::Directory;
pub use files::{Files, OpenFile};
pub use layout::{Coding, FORMAT_VERSION, Group, QuantizationConfig};
pub(crate) use matrix::MatrixWriter;
pub use reader::{Checkpoint, Mapped, Plain};
pub(crate) use reader::{DAMAGED, INDEX, NO_CHECKSUM, SINGLE};
pub use shard::Shard;
pub use writer::{ShardWriter, TensorSpec};
