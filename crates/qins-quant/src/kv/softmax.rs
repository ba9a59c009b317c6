//! The weights of one query for a block of tokens.

use super::BLOCK;
use crate::kernel::{Simd, exp, per_isa};

/// The largest score so far, and the sum of the weights of a block relative to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weighed {
    pub(super) largest: f32,
    pub(super) sum: f32,
}

/// Turns scores into weights, exp(factor·score − largest), where `before` is the largest of earlier blocks; a NaN among them makes all NaN, and
/// of −∞ alone the weights are 0.
pub(super) fn weigh(simd: Simd, scores: &mut [f32; BLOCK], factor: f32, before: f32) -> Weighed {
    let mut weighed = Weighed { largest: before, sum: 0.0 };
    weigh_on(simd, scores, factor, &mut weighed);
    weighed
}

per_isa! { fn weigh_on(scores: &mut [f32; BLOCK], factor: f32, weighed: &mut Weighed) = weigh_inlined }

#[inline(always)]
fn weigh_inlined(scores: &mut [f32; BLOCK], factor: f32, weighed: &mut Weighed) {
    for score in scores.iter_mut() {
        *score *= factor;
    }
    let nan = scores.iter().fold(weighed.largest.is_nan(), |nan, score| nan | score.is_nan());
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let largest = if nan { f32::NAN } else { larger(joined(*scores, larger), weighed.largest) };
    weighed.largest = largest;
    if largest == f32::NEG_INFINITY {
        return scores.fill(0.0);
    }
    for score in scores.iter_mut() {
        *score = exp(*score - largest);
    }
    weighed.sum = joined(*scores, |a, b| a + b);
}

/// All numbers joined in pairs, and then these: an order that is the same on all instruction sets, and in vectors.
#[inline(always)]
fn joined(mut numbers: [f32; BLOCK], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut n = BLOCK / 2;
    while n > 0 {
        for i in 0..n {
            numbers[i] = join(numbers[i], numbers[i + n]);
        }
        n /= 2;
    }
    numbers[0]
}

/// The larger of the two; NaN if either is, which `f32::max` drops.
#[inline(always)]
pub(super) fn worse(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) }
}
