//! Options of the encoders.

use qins_codec::Alpha;

use super::{Curves, Rate};
use crate::{Effort, Prune};

/// Options of an encoder.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EncodeOptions {
    /// A fixed α. Without it `companded-f32` takes the report's α = 1 and `q8` fits a curvature to each row.
    ///
    /// For `q8` a fixed α has the meaning of the report: the codes divide the whole of z ∈ [0, 1], whatever part of it
    /// the weights use. Other schemes reject one.
    pub alpha: Option<Alpha>,
    /// The bits per weight, or the step, of [`Scheme::Rate`](crate::Scheme::Rate); other schemes ignore it.
    pub rate: Rate,
    /// The curves that the groups of a grouped scheme choose from; by default, those with the least error for the matrix.
    pub curves: Option<Curves>,
    /// The share of each row's weights to set to zero beforehand.
    pub prune: Prune,
    /// How much work is done to find the codes, where there is feedback.
    pub effort: Effort,
}
