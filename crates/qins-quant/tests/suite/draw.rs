//! Weights and matrices for property tests.

use proptest::prelude::*;

/// Weights of any size from 2⁻⁴⁰ up to 2 to the `largest`, with zeros of both signs among them.
pub(crate) fn weight(largest: f32) -> impl Strategy<Value = f32> {
    let sized = (-40.0..largest, any::<bool>()).prop_map(|(e, minus)| if minus { -e.exp2() } else { e.exp2() });
    prop_oneof![8 => sized, 1 => Just(0.0), 1 => Just(-0.0)]
}

/// Matrices of such weights with fewer rows and columns than `shape`, and none of them too. The first weight is 1, so that the
/// smallest are a negligible part of the matrix: alone they would be rejected.
pub(crate) fn matrix(shape: [usize; 2], largest: f32) -> impl Strategy<Value = (Vec<f32>, [usize; 2])> {
    (0..shape[0], 0..shape[1])
        .prop_flat_map(move |(rows, cols)| (prop::collection::vec(weight(largest), rows * cols), Just([rows, cols])))
        .prop_map(|(mut weights, shape)| {
            weights.iter_mut().take(1).for_each(|first| *first = 1.0);
            (weights, shape)
        })
}
