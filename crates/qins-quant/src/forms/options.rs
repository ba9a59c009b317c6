//! What an encoder can be told.

use qins_codec::Alpha;

use super::{Curves, Rate};
use crate::Prune;

/// Choices an encoder leaves to its caller.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EncodeOptions {
    /// A fixed α. Without it `companded-f32` takes the report's α = 1 and `q8` fits a curvature to each row.
    ///
    /// For `q8` a fixed α means what it meant in the report: the codes divide the whole of z ∈ [0, 1], whatever range
    /// the weights use of it. The other schemes have no α to fix.
    pub alpha: Option<Alpha>,
    /// What [`Scheme::Rate`](crate::Scheme::Rate) shall cost; no other scheme asks.
    pub rate: Rate,
    /// Which curves the groups of a grouped scheme choose from; without it, those that suit the matrix.
    pub curves: Option<Curves>,
    /// The share of each row's weights to set to zero beforehand.
    pub prune: Prune,
}
