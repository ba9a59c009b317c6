//! Encoding and decoding one matrix.

use half::{bf16, f16};
use proptest::prelude::*;
use qins_codec::{Curvature, slice};
use qins_quant::{Alpha, EncodeError, EncodeOptions, EncodedTensor, FloatDtype, Form, MatrixFormat, Recipe, Scheme};

use crate::{
    common::{Random, bits, bytes_of},
    draw::{matrix, weight},
};

fn with_alpha(scheme: Scheme, alpha: f32) -> Recipe {
    Recipe::new(scheme, EncodeOptions { alpha: Some(Alpha::new(alpha).unwrap()), ..EncodeOptions::default() })
}

fn encode(weights: &[f32], shape: [usize; 2], scheme: Scheme) -> Result<EncodedTensor, EncodeError> {
    EncodedTensor::encode(weights, shape, scheme)
}

fn decode(encoded: &EncodedTensor) -> Vec<f32> {
    let [rows, cols] = encoded.shape();
    let mut out = vec![f32::NAN; rows * cols];
    encoded.decode_into(&mut out);
    out
}

/// The codes, and the scale and curvature of each row.
fn q8(encoded: &EncodedTensor) -> (Vec<u8>, &[f32], &[f32]) {
    (bytes_of(encoded, "packed"), encoded.floats("scale").unwrap(), encoded.floats("curvature").unwrap())
}

/// The distance of each weight from its decoded value, in steps of its row's code: at most ½ by rounding.
fn steps_off(weights: &[f32], encoded: &EncodedTensor) -> Vec<f64> {
    let (codes, scale, curvature) = q8(encoded);
    let cols = encoded.shape()[1];
    let off = |(i, &w): (usize, &f32)| {
        let (s, k) = (f64::from(scale[i / cols]), f64::from(curvature[i / cols]));
        let t = f64::from(w.abs()) / s;
        let v = if s == 0.0 { 0.0 } else { (1.0 + k) * t / (1.0 + k * t) };
        (127.0 * v - f64::from(codes[i] & 0x7f)).abs()
    };
    weights.iter().enumerate().map(off).collect()
}

/// Rounding in f32 can move 127·v by some 127·4 units in the last place.
const HALF: f64 = 0.5 + 1e-4;

#[test]
fn q8_error_is_at_most_half_a_step() {
    let weights = Random(1).normals(64 * 300, 0.02);
    let encoded = encode(&weights, [64, 300], Scheme::Q8).unwrap();
    let worst = steps_off(&weights, &encoded).into_iter().fold(0.0, f64::max);
    // The lower end shows that the measurement works: a code that is off by one would be at ½ or more.
    assert!((0.49..=HALF).contains(&worst), "{worst}");
    // The measurement in steps agrees with decoding.
    let (codes, scale, curvature) = q8(&encoded);
    for (i, decoded) in decode(&encoded).into_iter().enumerate() {
        let (q, k, s) = (f64::from(codes[i] & 0x7f), f64::from(curvature[i / 300]), f64::from(scale[i / 300]));
        let expected = s * q / (127.0 + k * (127.0 - q));
        assert!((f64::from(decoded.abs()) - expected).abs() <= 4.0 * f64::from(f32::EPSILON) * expected);
    }
}

proptest! {
    #[test]
    fn q8_error_is_at_most_half_a_step_and_signs_are_kept((weights, shape) in matrix([5, 40], 15.99)) {
        let encoded = encode(&weights, shape, Scheme::Q8).unwrap();
        prop_assert!(steps_off(&weights, &encoded).into_iter().all(|steps| steps <= HALF));
        for (w, d) in weights.iter().zip(decode(&encoded)) {
            prop_assert_eq!(w.is_sign_negative(), d.is_sign_negative(), "{} became {}", w, d);
            prop_assert!(*w != 0.0 || d == 0.0, "{} became {}", w, d);
        }
        let (_, scale, curvature) = q8(&encoded);
        prop_assert_eq!((scale.len(), curvature.len()), (shape[0], shape[0]));
        for parameter in scale.iter().chain(curvature) {
            prop_assert_eq!(f16::from_f32(*parameter).to_f32(), *parameter, "an f16 holds it");
        }
    }

    #[test]
    fn reencoding_decoded_weights_gives_the_same_codes((weights, shape) in matrix([5, 40], 15.99), alpha in -10.0..10.0_f32) {
        // With a fixed α the whole matrix, parameters included.
        let recipe = with_alpha(Scheme::Q8, alpha.exp2());
        let once = EncodedTensor::encode_as(&weights, shape, FloatDtype::F32, &recipe).unwrap();
        let again = EncodedTensor::encode_as(&decode(&once), shape, FloatDtype::F32, &recipe).unwrap();
        prop_assert_eq!(&again, &once);
        // The curvature would be fitted again, so the codes are compared under the row's own.
        let once = encode(&weights, shape, Scheme::Q8).unwrap();
        let (codes, scale, curvature) = q8(&once);
        let cols = shape[1].max(1);
        for (row, x) in decode(&once).chunks(cols).enumerate() {
            let mut again = vec![0; cols];
            slice::encode(x, scale[row], Curvature::new(curvature[row]).unwrap(), &mut again).unwrap();
            prop_assert_eq!(&again, &codes[row * cols..][..cols]);
        }
    }

    #[test]
    fn companded_f32_round_trips_f32_within_a_millionth(weights in prop::collection::vec(weight(15.99), 1..200)) {
        let small: Vec<f32> = weights.iter().copied().filter(|w| w.abs() <= 4.0).collect();
        let encoded = encode(&small, [1, small.len()], Scheme::CompandedF32).unwrap();
        for (w, d) in small.iter().zip(decode(&encoded)) {
            prop_assert!((w - d).abs() <= 1e-6 * w.abs() && w.is_sign_negative() == d.is_sign_negative(), "{w}: {d}");
        }
    }
}

/// Every finite value of a two-byte type within the domain that the codec documents.
fn all(dtype: FloatDtype, limit: f32) -> Vec<f32> {
    (0..=u16::MAX)
        .map(|bits| match dtype {
            FloatDtype::F16 => f16::from_bits(bits).to_f32(),
            _ => bf16::from_bits(bits).to_f32(),
        })
        .filter(|x| x.is_finite() && x.abs() <= limit)
        .collect()
}

#[test]
fn companded_f32_round_trips_bf16_and_f16_exactly() {
    for alpha in [1.0, 0.0078125, 0.37, 50.0] {
        // A type of p bits has (4 + α|x|)·ε below half a step of 2⁻ᵖ up to about these.
        for (dtype, limit) in [(FloatDtype::Bf16, 65_536.0), (FloatDtype::F16, 2048.0)] {
            let weights = all(dtype, limit / alpha);
            assert!(weights.len() > 35_000, "{alpha} {dtype:?}: only {} values", weights.len());
            let shape = [weights.len(), 1];
            let recipe = with_alpha(Scheme::CompandedF32, alpha);
            let through = |source| decode(&EncodedTensor::encode_as(&weights, shape, source, &recipe).unwrap());
            assert!(bits(&through(dtype)) == bits(&weights), "α = {alpha}: some {dtype:?} came back different");
            // Only the rounding to the source type makes it exact.
            assert!(bits(&through(FloatDtype::F32)) != bits(&weights), "α = {alpha}: {dtype:?} was never at risk");
        }
    }
}

#[test]
fn zero_rows_decode_to_signed_zeros_under_scale_zero() {
    let weights = [0.0, -0.0, 0.0, 1.0, -1.0, 0.5];
    let encoded = encode(&weights, [2, 3], Scheme::Q8).unwrap();
    assert_eq!(bits(&decode(&encoded)[..3]), bits(&weights[..3]));
    assert_eq!(q8(&encoded).1, [0.0, 1.0]);
}

#[test]
fn matrices_without_rows_or_columns_round_trip() {
    for scheme in Scheme::ALL {
        for shape in [[0, 0], [0, 5], [5, 0], [1, 1], [1, 5], [5, 1]] {
            let weights = vec![0.25; shape[0] * shape[1]];
            let encoded = encode(&weights, shape, scheme).unwrap();
            // The largest weight of a group is not exactly a level: its scale is a whole number of steps of its block's.
            let slack = match scheme.form() {
                Form::Grouped(_) => 0.002,
                // So few weights cannot be coded in 4 bits each.
                Form::Rate => 0.2,
                Form::Plain | Form::CompandedFloat(_) | Form::CompandedRow | Form::Lossless => 0.0,
            };
            assert!(decode(&encoded).iter().all(|d| (d - 0.25).abs() <= slack), "{scheme} {shape:?}");
            let again = EncodedTensor::from_parts(encoded.format(), shape[0], encoded.parts().to_vec());
            assert_eq!(again.unwrap(), encoded, "{scheme} {shape:?}");
        }
    }
}

#[test]
fn single_column_decodes_to_its_scale() {
    let weights = [0.3_f32, -0.007, 100.0, 65_504.0, -1e-6];
    let encoded = encode(&weights, [5, 1], Scheme::Q8).unwrap();
    for (w, d) in weights.iter().zip(decode(&encoded)) {
        // The scale is the next f16: 2⁻¹⁰ above, or the smallest subnormal where that is more.
        assert!((d - w).abs() <= (w.abs() / 1024.0).max(6e-8), "{w} became {d}");
    }
}

#[test]
fn subnormal_f16_scale_covers_its_row() {
    for largest in [6.1e-5_f32, 1e-6, 7e-8, 1e-9, 1e-38, f32::from_bits(1)] {
        // Alone, such rows are rejected; beside a row of ordinary weights they are negligible.
        let weights = [largest, -largest / 3.0, 0.0, 1.0, 1.0, 1.0];
        let encoded = encode(&weights, [2, 3], Scheme::Q8).unwrap();
        let scale = q8(&encoded).1[0];
        assert!(scale >= largest && scale <= largest + 6e-8, "{largest}: scale {scale}");
        assert!(steps_off(&weights, &encoded).into_iter().all(|steps| steps <= HALF), "{largest}");
    }
}

#[test]
fn scale_overflow_names_its_weight_and_the_range() {
    for (largest, fits) in [(65_504.0, true), (65_505.0, false), (-70_000.0, false), (f32::MAX, false)] {
        let result = encode(&[1.0, 2.0, 3.0, largest], [2, 2], Scheme::Q8);
        assert_eq!(result.is_ok(), fits, "{largest}");
        if let Err(error) = result {
            assert!(matches!(error, EncodeError::AboveRange { row: 1, col: 1, .. }), "{error:?}");
            let expected = format!(
                "expected weights of magnitude 65504 or less, as an f16 scale ends at 65504, found {largest} at row 1, column 1"
            );
            assert_eq!(error.to_string(), expected);
        }
    }
}

#[test]
fn companded_f32_overflow_names_its_weight() {
    for (weight, fits) in [(6e4, true), (5e5, false), (3.3e7, false), (3.4e7, false), (-1e30, false)] {
        let result = encode(&[1.0, 2.0, 3.0, weight, 5.0, 6.0], [2, 3], Scheme::CompandedF32);
        assert_eq!(result.is_ok(), fits, "{weight}");
        if let Err(error) = result {
            assert!(error.to_string().contains("row 1, column 0"), "{error}");
        }
    }
    // The limit is on α·|x|.
    let recipe = |alpha| with_alpha(Scheme::CompandedF32, alpha);
    let encode = |alpha| EncodedTensor::encode_as(&[1e4], [1, 1], FloatDtype::F32, &recipe(alpha));
    assert!(encode(1.0).is_ok() && encode(1e3).is_err() && encode(1e-38).is_ok());
}

#[test]
fn nan_and_infinity_are_rejected_with_their_position() {
    for scheme in Scheme::ALL {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut weights = [0.5; 12];
            assert!(encode(&weights, [3, 4], scheme).is_ok());
            weights[6] = value;
            weights[9] = value;
            let error = encode(&weights, [3, 4], scheme).unwrap_err();
            assert!(matches!(error, EncodeError::NonFinite { row: 1, col: 2, .. }), "{error:?}");
            assert!(error.to_string().contains("row 1, column 2"), "{error}");
        }
    }
}

#[test]
fn length_mismatch_is_rejected_even_if_the_shape_overflows() {
    for scheme in Scheme::ALL {
        for shape in [[2, 2], [1, 4], [usize::MAX, 2], [1 << 40, 1 << 40], [1 << 32, 1 << 32]] {
            let found = if shape == [1 << 32, 1 << 32] { 0 } else { 3 };
            let error = encode(&vec![0.5; found], shape, scheme).unwrap_err();
            assert_eq!(error, EncodeError::Length { expected: shape, found });
        }
    }
}

#[test]
fn invalid_stored_parts_are_rejected() {
    let format = MatrixFormat::new(Form::CompandedRow, FloatDtype::Bf16, 3);
    let make = |codes: usize, scale: &[f32], curvature: &[f32]| {
        let mut parts = format.read([vec![1; codes]]);
        parts.extend([scale, curvature].map(|values| values.iter().map(|v| v.to_bits()).collect()));
        EncodedTensor::from_parts(format, 2, parts)
    };
    assert!(make(6, &[1.0, 0.0], &[0.0, 65_504.0]).is_ok());
    assert!(make(3, &[1.0, 1.0], &[0.0, 0.0]).is_err());
    assert!(make(7, &[1.0, 1.0], &[0.0, 0.0]).is_err());
    assert!(make(6, &[1.0], &[0.0, 0.0]).is_err());
    assert!(make(6, &[1.0, 1.0], &[0.0; 3]).is_err());
    for bad in [f32::NAN, f32::INFINITY, -1.0, -f32::MIN_POSITIVE] {
        let error = make(6, &[1.0, bad], &[0.0, 0.0]).unwrap_err().to_string();
        assert!(error.contains("scale") && error.contains("row 1"), "{error}");
        let error = make(6, &[1.0, 1.0], &[bad, 0.0]).unwrap_err().to_string();
        assert!(error.contains("curvature") && error.contains("row 0"), "{error}");
    }
    // Beyond the codec's range; must not silently become another curve.
    assert!(make(6, &[1.0, 1.0], &[0.0, 65_537.0]).is_err());
    // Missing parts, one too many, and plain weights.
    let parts = make(6, &[1.0, 1.0], &[0.0, 0.0]).unwrap().parts().to_vec();
    let error = |parts, format| EncodedTensor::from_parts(format, 2, parts).unwrap_err();
    for found in [0, 2, 4] {
        let parts = parts.iter().cycle().take(found).cloned().collect();
        assert_eq!(error(parts, format), EncodeError::Parts { scheme: Scheme::Q8, expected: 3, found });
    }
    assert_eq!(error(parts, MatrixFormat::new(Form::Plain, FloatDtype::Bf16, 3)), EncodeError::Plain);
}

#[test]
fn matrix_without_columns_has_no_bytes_however_many_rows() {
    let rows = 1 << 60;
    let encoded = EncodedTensor::encode_as(&[], [rows, 0], FloatDtype::Bf16, &Scheme::Lossless.into()).unwrap();
    assert!(encoded.bytes_of_rows(0..rows).is_empty() && encoded.decode().is_empty());
}
