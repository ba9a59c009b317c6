//! The weights of one query for a block of tokens.

use crate::kernel::{Simd, per_isa};

/// Sums that are taken side by side; the order is the same on all instruction sets.
const LANES: usize = 16;

/// The largest score so far, and the sum of the weights of a block relative to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weighed {
    pub(super) largest: f32,
    pub(super) sum: f32,
}

/// Turns scores into weights, exp(score − largest), where `before` is the largest of earlier blocks; a NaN among them makes all NaN, and of
/// −∞ alone the weights are 0.
pub(super) fn weigh(scores: &mut [f32], before: f32) -> Weighed {
    let mut weighed = Weighed { largest: before, sum: 0.0 };
    weigh_on(Simd::get(), scores, &mut weighed);
    weighed
}

per_isa! { fn weigh_on(scores: &mut [f32], weighed: &mut Weighed) = weigh_inlined }

#[inline(always)]
fn weigh_inlined(scores: &mut [f32], weighed: &mut Weighed) {
    let (mut largest, mut nan) = ([weighed.largest; LANES], weighed.largest.is_nan());
    for scores in scores.chunks(LANES) {
        for (largest, score) in largest.iter_mut().zip(scores) {
            *largest = if *score > *largest { *score } else { *largest };
            nan |= score.is_nan();
        }
    }
    let largest = if nan { f32::NAN } else { largest.into_iter().fold(f32::NEG_INFINITY, f32::max) };
    weighed.largest = largest;
    if largest == f32::NEG_INFINITY {
        return scores.fill(0.0);
    }
    let mut sums = [0.0; LANES];
    for scores in scores.chunks_mut(LANES) {
        for (sum, score) in sums.iter_mut().zip(scores) {
            *score = exp(*score - largest);
            *sum += *score;
        }
    }
    weighed.sum = sums.iter().sum();
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
    let n = (x.max(-87.0) * std::f32::consts::LOG2_E).round_ties_even();
    let r = x.max(-87.0) - n * LN_2[0] - n * LN_2[1];
    let series = SERIES.iter().fold(1.0 / 5040.0, |sum, c| sum * r + c) * r + 1.0;
    let power = f32::from_bits(((n + 127.0) as i32 as u32) << 23);
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
