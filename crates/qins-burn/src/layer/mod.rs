//! Linear maps whose weights are plain or encoded.

mod dense;
mod projection;
mod qins;
mod tap;
mod words;

pub use dense::{Biased, DenseLinear};
pub use projection::Projection;
pub use qins::{Coded, Companded, Grouped, QinsLinear};
pub(crate) use tap::Tap;
