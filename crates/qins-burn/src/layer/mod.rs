//! Linear maps whose weights are plain or encoded.

mod dense;
mod projection;
mod qins;

pub use dense::DenseLinear;
pub use projection::Projection;
pub use qins::QinsLinear;
