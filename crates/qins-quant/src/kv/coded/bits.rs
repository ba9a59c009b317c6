//! How many bits each channel of a block of keys gets.

/// Bits for each channel, `mean` on average, such that the sum of `(weights[c]·2^−bits[c])²` is least: reverse water-filling, in whole
/// bits between `least` and `most`. The bits are given one at a time to the channel that gains most from it, the first of equals, which is
/// optimal as the gains of a channel shrink.
pub(super) fn allocate(weights: &[f32], mean: u8, [least, most]: [u8; 2]) -> Vec<u8> {
    let mut bits = vec![least; weights.len()];
    // A weight that is NaN counts as none.
    let errors = |weight: &f32| if weight.is_finite() { weight * weight } else { 0.0 };
    let mut errors: Vec<f32> = weights.iter().map(errors).collect();
    for _ in 0..usize::from(mean - least) * weights.len() {
        let mut largest = None;
        for (c, (error, bits)) in errors.iter().zip(&bits).enumerate() {
            if *bits < most && largest.is_none_or(|(_, most)| *error > most) {
                largest = Some((c, *error));
            }
        }
        let Some((c, _)) = largest else { break };
        bits[c] += 1;
        errors[c] *= 0.25;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_have_their_mean_and_the_least_error_of_all_assignments() {
        let weights = [9.0, 0.3, 2.0, 1.0];
        let error =
            |bits: &[u8]| -> f32 { weights.iter().zip(bits).map(|(w, b)| (w * (-f32::from(*b)).exp2()).powi(2)).sum() };
        let found = allocate(&weights, 4, [3, 7]);
        assert_eq!(found.iter().map(|b| usize::from(*b)).sum::<usize>(), 16);
        let widths = || 3..=7_u8;
        let all = widths()
            .flat_map(|a| widths().flat_map(move |b| widths().flat_map(move |c| widths().map(move |d| [a, b, c, d]))));
        let best = all.filter(|bits| bits.iter().sum::<u8>() == 16).map(|bits| error(&bits)).fold(f32::MAX, f32::min);
        assert_eq!(error(&found), best, "{found:?}");
        // Equal weights have equal bits, and a weight that is not a number does no harm.
        assert_eq!(allocate(&[1.0; 5], 4, [3, 7]), [4; 5]);
        assert_eq!(allocate(&[f32::NAN, 1.0], 4, [3, 7]), [3, 5]);
    }
}
