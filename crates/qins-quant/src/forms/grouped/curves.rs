//! The curves a matrix's groups choose from.

use half::f16;
use qins_codec::Curvature;

use super::{Layout, Weights, Width, encode::encode};

/// Weights looked at to choose.
pub(super) const SAMPLE: usize = 1 << 16;

/// Which four of the five curvatures of a layout the groups of a matrix choose from.
///
/// The linear one and the most bent one are of use to different matrices: weights of light tails, and those that were whole
/// steps once, want the former; weights of heavy tails the latter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curves {
    /// All but the linear one.
    Bent,
    /// All but the most bent one.
    Flat,
}

impl Curves {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Bent, Self::Flat];

    /// The curvatures, as they are stored.
    pub(super) fn curvatures(self, layout: Layout) -> [Curvature; Layout::CURVES] {
        let [a, b, c, d] = bent(layout);
        let curvatures = match self {
            Self::Bent => [a, b, c, d],
            Self::Flat => [0.0, a, b, c],
        };
        curvatures.map(|k| Curvature::new(f16::from_f32(k).to_f32()).unwrap_or(Curvature::LINEAR))
    }
}

/// Found on Gaussian and Student-t(5) weights, as a compromise between the two; the optimum is flat.
const fn bent(layout: Layout) -> [f32; Layout::CURVES] {
    match layout.width() {
        Width::W3 => [0.1, 0.6, 1.2, 2.4],
        Width::W4 => [0.2, 0.6, 1.2, 2.0],
        Width::W5 | Width::W6 | Width::W8 => [0.4, 0.8, 1.2, 2.0],
    }
}

/// The curves of least error for a matrix of which `sample` are some rows. Weights that cannot be encoded have no say:
/// whoever encodes them refuses them, and says where they are.
///
/// At few bits the bent ones, whatever their error: on SmolLM2 in four bits the flat ones keep 0.5 dB more of the weights, but less
/// of what the model says (a mean KL of 0.116 instead of 0.105); in six they keep more of both.
pub(super) fn choose(sample: &Weights<'_>, layout: Layout) -> Curves {
    match layout.width() {
        Width::W3 | Width::W4 | Width::W5 => return Curves::Bent,
        Width::W6 | Width::W8 => {}
    }
    let error = |curves| encode(sample, layout, curves).map_or(0.0, |(_, error)| error);
    if error(Curves::Flat) < error(Curves::Bent) { Curves::Flat } else { Curves::Bent }
}
