//! The weights of one query for a block of tokens.

use super::BLOCK;
use crate::kernel::{Simd, per_isa};

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

/// eˣ for x ≤ 0, to about a unit in the last place; 0 below −87, where it is less than the smallest normal number. Without branches, so that a
/// loop over it is vectorised: e^x = 2ⁿ·eʳ for the integer n nearest to x/ln 2, and the series of eʳ up to its seventh power.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // ln 2 in two parts, whose products with n are exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const SERIES: [f32; 6] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0];
    // Adding 1.5·2²³, whose unit in the last place is 1, rounds, and leaves n in the low bits. (A cast to an integer would not be vectorised.)
    const ROUND: f32 = 12_582_912.0;
    let rounded = x.max(-87.0) * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = x.max(-87.0) - n * LN_2[0] - n * LN_2[1];
    let series = SERIES.iter().fold(1.0 / 5040.0, |sum, c| sum * r + c) * r + 1.0;
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    let y = series * power;
    // The maximum drops a NaN.
    if x.is_nan() {
        x
    } else if x < -87.0 {
        0.0
    } else {
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_is_within_two_units_in_the_last_place() {
        for i in 0..=870_000 {
            let x = -0.0001 * i as f32;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((found - expected).abs() <= 2.4e-7 * expected, "{x}: {found}, not {expected}");
        }
        assert_eq!((exp(0.0), exp(f32::NEG_INFINITY), exp(-88.0)), (1.0, 0.0, 0.0));
        assert!(exp(f32::NAN).is_nan());
    }
}
