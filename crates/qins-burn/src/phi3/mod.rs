//! Phi-3, and the models that are Phi-3 with their projections unfused (Llama without biases).

mod attention;
mod block;
mod config;
mod mlp;
mod model;
mod precision;
mod rope;

pub use attention::Attention;
pub use block::Block;
pub(crate) use config::OneOrMany;
pub use config::{LongRope, ModelConfig};
pub use mlp::Mlp;
pub use model::{Logits, Phi3};
pub use precision::Precision;
pub use rope::{Rope, RopeRegime};
