//! Linear maps whose weights are plain or encoded.

mod activation_stats;
mod pages;
mod projection;
mod weights;

pub(crate) use activation_stats::ActivationStats;
pub use projection::Projection;
