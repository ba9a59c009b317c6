//! The exponential of numbers that are not positive.

/// eˣ for x ≤ 0, to about a unit in the last place; 0 below −87, where it is less than the smallest normal number. Without branches, so that a
/// loop over it is vectorised: e^x = 2ⁿ·eʳ for the integer n nearest to x/ln 2, and the series of eʳ up to its seventh power.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
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
