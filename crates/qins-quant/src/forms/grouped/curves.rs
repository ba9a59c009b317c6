//! The curves that the groups of a matrix choose from.

use half::f16;
use qins_codec::Curvature;

use super::{Layout, Weights, Width, encode::encode};

/// Weights sampled to choose the curves.
pub(super) const SAMPLE: usize = 1 << 16;

/// Which four of a layout's five curvatures the groups of a matrix choose from.
///
/// The linear one suits weights with light tails and weights that have been quantised uniformly before; the most bent one suits
/// weights with heavy tails. No matrix needs both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curves {
    /// All except the linear one.
    Bent,
    /// All except the most bent one.
    Flat,
}

impl Curves {
    /// Both choices.
    pub const ALL: [Self; 2] = [Self::Bent, Self::Flat];

    /// The curvatures, rounded as they are stored.
    pub(super) fn curvatures(self, layout: Layout) -> [Curvature; Layout::CURVES] {
        let [a, b, c, d] = bent(layout);
        let curvatures = match self {
            Self::Bent => [a, b, c, d],
            Self::Flat => [0.0, a, b, c],
        };
        curvatures.map(|k| Curvature::new(f16::from_f32(k).to_f32()).unwrap_or(Curvature::LINEAR))
    }
}

/// Tuned on Gaussian and Student-t(5) weights, as a compromise between the two. The optimum is flat.
const fn bent(layout: Layout) -> [f32; Layout::CURVES] {
    match layout.width() {
        Width::W3 => [0.1, 0.6, 1.2, 2.4],
        Width::W4 => [0.2, 0.6, 1.2, 2.0],
        Width::W5 | Width::W6 | Width::W8 => [0.4, 0.8, 1.2, 2.0],
    }
}

/// Chooses the curves with the smaller error on `sample`, which is some rows of the matrix. A sample that cannot be encoded
/// counts as without error: encoding the matrix then fails with its position.
///
/// Up to 5 bits always the bent ones. On SmolLM2 at 4 bits the flat ones have an SQNR that is 0.5 dB higher, but a worse mean KL
/// divergence (0.116 instead of 0.105); at 6 bits they are better in both.
pub(super) fn choose(sample: &Weights<'_>, layout: Layout) -> Curves {
    match layout.width() {
        Width::W3 | Width::W4 | Width::W5 => return Curves::Bent,
        Width::W6 | Width::W8 => {}
    }
    let error = |curves| encode(sample, layout, curves).map_or(0.0, |(_, error)| error);
    if error(Curves::Flat) < error(Curves::Bent) { Curves::Flat } else { Curves::Bent }
}
