//! Weights of any magnitude: encoded as well as ordinary ones, or rejected.

use qins_quant::{EncodeError, EncodedTensor, Fidelity, FloatDtype, Recipe, Scheme};

use crate::common::Random;

const SHAPE: [usize; 2] = [32, 512];

/// The SQNR, ∞ if every weight is exact.
fn decibels(weights: &[f32], source: FloatDtype, scheme: Scheme) -> Result<f64, EncodeError> {
    let encoded = EncodedTensor::encode_as(weights, SHAPE, source, &scheme.into())?;
    Ok(Fidelity::of(weights, &encoded.decode()).sqnr_db().unwrap_or(f64::INFINITY))
}

/// Gaussian weights times 10 to the `power`, in the type `source`, the 700th of them an outlier or not; `None` if they are beyond
/// the type.
fn weights(power: f64, outlier: bool, source: FloatDtype) -> Option<Vec<f32>> {
    let mut weights = Random(5).normals(SHAPE[0] * SHAPE[1], 0.05);
    weights[700] *= if outlier { 30.0 } else { 1.0 };
    let scaled = |w: &f32| source.round((f64::from(*w) * 10_f64.powf(power)) as f32);
    Some(weights.iter().map(scaled).collect()).filter(|all: &Vec<f32>| all.iter().all(|w| w.is_finite()))
}

#[test]
fn weights_of_any_magnitude_keep_their_sqnr_or_are_rejected() {
    for scheme in Scheme::ALL {
        for source in [FloatDtype::F32, FloatDtype::Bf16, FloatDtype::F16] {
            for outlier in [false, true] {
                let ordinary = decibels(&weights(0.0, outlier, source).unwrap(), source, scheme).unwrap();
                // Of what `companded-f32` loses of f32 weights, the formula's own 1 + |x| is part; it is rejected beyond 2⁻⁸.
                let promised =
                    if scheme == Scheme::CompandedF32 && source == FloatDtype::F32 { 48.0 } else { ordinary - 0.5 };
                let mut line = String::new();
                let mut accepted = 0;
                // In tenths where the smallest scales are.
                let powers = (-30..=30).map(f64::from).chain((-80..-20).map(|i| f64::from(i) / 10.0));
                for power in powers {
                    let Some(weights) = weights(power, outlier, source) else { continue };
                    match decibels(&weights, source, scheme) {
                        Ok(db) => {
                            line += &format!(" 1e{power}: {db:.2}");
                            assert!(db >= promised, "{scheme}, {source:?}, 1e{power}: {db:.2} dB, not {ordinary:.2}");
                            accepted += 1;
                        }
                        Err(error) => {
                            let (Some(row), Some(col)) = place(&error) else {
                                panic!("{scheme}, 1e{power}: {error:?}")
                            };
                            let found = format!("at row {row}, column {col}");
                            assert!(error.to_string().contains(&found.replace("at ", "")), "{error}");
                            assert!(weights[row * SHAPE[1] + col] != 0.0, "{error}");
                            line += &format!(" 1e{power}: no");
                        }
                    }
                }
                println!("{scheme} {source:?} outlier {outlier}: {ordinary:.2};{line}");
                // Control: weights of a few orders of magnitude around ordinary ones are never rejected.
                assert!(accepted >= 5, "{scheme}, {source:?}: {accepted}");
            }
        }
    }
}

/// The weight that a rejection names.
fn place(error: &EncodeError) -> (Option<usize>, Option<usize>) {
    match *error {
        EncodeError::AboveRange { row, col, .. }
        | EncodeError::BelowRange { row, col, .. }
        | EncodeError::Saturated { row, col, .. }
        | EncodeError::Inexact { row, col, .. } => (Some(row), Some(col)),
        _ => (None, None),
    }
}

#[test]
fn tiny_and_zero_rows_beside_ordinary_ones_are_accepted() {
    for scheme in Scheme::ALL {
        for small in [0.0, 1e-30, 1e-9, 1e-6] {
            let mut weights = weights(0.0, false, FloatDtype::F32).unwrap();
            weights[3 * SHAPE[1]..6 * SHAPE[1]].iter_mut().for_each(|w| *w *= small);
            let [with, without] = [small, 0.0].map(|small| {
                weights[3 * SHAPE[1]..6 * SHAPE[1]].iter_mut().for_each(|w| *w = if small == 0.0 { 0.0 } else { *w });
                decibels(&weights, FloatDtype::F32, scheme).unwrap()
            });
            assert!(with >= without - 0.1, "{scheme}, {small}: {with} dB, {without} dB with zeros");
        }
        let zeros = vec![0.0; SHAPE[0] * SHAPE[1]];
        assert_eq!(decibels(&zeros, FloatDtype::F32, scheme), Ok(f64::INFINITY), "{scheme}");
    }
}

/// A column that a calibration never reached, and a calibration that reached none.
#[test]
fn importance_of_zero_costs_no_quality() {
    let weights = weights(0.0, false, FloatDtype::F32).unwrap();
    let with = |scheme, importance: Option<Vec<f32>>| {
        let recipe = Recipe { importance: importance.map(Into::into), ..Recipe::from(scheme) };
        let encoded = EncodedTensor::encode_as(&weights, SHAPE, FloatDtype::F32, &recipe).unwrap();
        Fidelity::of(&weights, &encoded.decode()).sqnr_db().unwrap()
    };
    for scheme in [Scheme::Q8g, Scheme::Q8, Scheme::Q6, Scheme::Q5, Scheme::Q4, Scheme::Q3] {
        let plain = with(scheme, None);
        let columns = |of: &dyn Fn(usize) -> f32| Some((0..SHAPE[1]).map(of).collect());
        for (name, importance) in [
            ("zeros", columns(&|_| 0.0)),
            ("tiny", columns(&|_| f32::from_bits(3))),
            ("one channel is zero", columns(&|i| f32::from(u8::from(i != 77)))),
            ("half are zero", columns(&|i| (i % 2) as f32)),
            ("whole groups are zero", columns(&|i| f32::from(u8::from(i % 64 < 32)))),
            ("one channel is tiny", columns(&|i| if i == 77 { 1e-30 } else { 1.0 })),
            ("one channel is not zero", columns(&|i| if i == 77 { 1e20 } else { 0.0 })),
        ] {
            let db = with(scheme, importance);
            println!("{scheme}, {name}: {db:.2} of {plain:.2} dB");
            assert!(db >= plain - 1.0, "{scheme}, {name}: {db:.2} dB, {plain:.2} dB without importance");
        }
    }
}
