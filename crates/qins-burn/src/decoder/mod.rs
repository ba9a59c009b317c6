//! A decoder-only transformer, built from its configuration.

mod attention;
mod block;
mod causal_lm;
mod mlp;
mod model;
mod precision;
mod rope;

pub(crate) use attention::rotated;
pub(crate) use block::{Midway, Site, both};
pub(crate) use rope::Rotation;

pub use attention::Attention;
pub use block::{Block, Norms};
pub use causal_lm::{CausalLm, Input, Logits};
pub use mlp::Mlp;
pub use model::Decoder;
pub use precision::Precision;
