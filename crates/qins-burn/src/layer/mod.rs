//! Linear maps whose weights are plain or encoded.

mod projection;
mod tap;
mod weights;

pub use projection::Projection;
pub(crate) use tap::Tap;
