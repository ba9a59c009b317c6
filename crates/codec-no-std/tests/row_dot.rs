//! The example is right across its block boundary, and says so when it cannot be.

use codec_no_std::row_dot;
use qins_codec::{Code, Curvature, SliceError};

#[test]
fn a_row_longer_than_the_block() {
    let (scale, k) = (0.5, Curvature::new(0.75).unwrap());
    let codes: Vec<u8> = (0..150).collect();
    let activations: Vec<f32> = (0..150_u8).map(|i| f32::from(i) / 64.0 - 1.0).collect();

    let weight = |bits: &u8| f64::from(scale * Code::from_bits(*bits).decode(k));
    let pairs = codes.iter().map(weight).zip(&activations);
    let expected: f64 = pairs.map(|(w, a)| w * f64::from(*a)).sum();

    let sum = row_dot(&codes, scale, k, &activations).unwrap();
    assert!((f64::from(sum) - expected).abs() < 1e-5, "{sum}, not {expected}");
    assert_eq!(
        row_dot(&codes, scale, k, &activations[1..]),
        Err(SliceError::LengthMismatch { input: 150, output: 149 })
    );
}
