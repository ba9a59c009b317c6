//! Properties of the 8-bit form, with naive formulas that violate them.

use proptest::prelude::*;
use qins_codec::{Alpha, Code, Curvature, ParameterError, SliceError, encode_u, slice, table};

const ALL: [u8; 256] = {
    let mut all = [0; 256];
    let mut bits = 0;
    while bits < 256 {
        all[bits] = bits as u8;
        bits += 1;
    }
    all
};

const BENT: Curvature = match Curvature::new(0.75) {
    Ok(k) => k,
    Err(_) => panic!("0.75 is in range"),
};

fn curvature(k: f32) -> Curvature {
    Curvature::new(k).unwrap()
}

/// Every octave from 2⁻²⁰ to the maximum equally likely, and the two ends.
fn any_curvature() -> impl Strategy<Value = Curvature> {
    prop_oneof![
        8 => (-20.0..16.0_f32).prop_map(|log| curvature(log.exp2())),
        1 => Just(Curvature::LINEAR),
        1 => Just(Curvature::MAX),
    ]
}

fn any_scale() -> impl Strategy<Value = f32> {
    (-60.0..60.0_f32).prop_map(f32::exp2)
}

fn decoded(scale: f32, k: Curvature) -> [f32; 256] {
    let mut x = [0.0; 256];
    slice::decode(&ALL, scale, k, &mut x).unwrap();
    x
}

fn encoded<const N: usize>(x: [f32; N], scale: f32, k: Curvature) -> [u8; N] {
    let mut codes = [0; N];
    slice::encode(&x, scale, k, &mut codes).unwrap();
    codes
}

/// 127·v from the definition, in f64.
fn level(t: f32, k: Curvature) -> f64 {
    let (t, k) = (f64::from(t).abs(), f64::from(k.get()));
    127.0 * (1.0 + k) * t / (1.0 + k * t)
}

proptest! {
    #[test]
    fn code_decodes_and_encodes_to_itself(k in any_curvature(), scale in any_scale()) {
        prop_assert_eq!(encoded(decoded(scale, k), scale, k), ALL);
    }

    #[test]
    fn encode_gives_nearest_level_of_v(t in -1.0..=1.0_f32, k in any_curvature()) {
        let code = Code::encode(t, k).unwrap();
        let off = |q: u8| (f64::from(q) - level(t, k)).abs();
        prop_assert!(off(code.magnitude()) <= 0.5 + 1e-4);
        prop_assert!(off(code.magnitude() + 1) >= 0.5 - 1e-4);
        prop_assert_eq!(code.sign(), 1.0_f32.copysign(t));
    }

    #[test]
    fn decode_matches_formula_in_f64(k in any_curvature()) {
        let wide = f64::from(k.get());
        for bits in ALL {
            let code = Code::from_bits(bits);
            let v = f64::from(code.magnitude()) / 127.0;
            let t = f64::from(code.sign()) * v / (1.0 + wide - wide * v);
            let error = (f64::from(code.decode(k)) - t).abs();
            prop_assert!(error <= 1.5 * f64::from(f32::EPSILON) * t.abs());
            prop_assert_eq!(code.decode(k).is_sign_negative(), bits >= 0x80);
        }
    }

    #[test]
    fn table_slice_and_scalar_are_bit_identical(k in any_curvature(), scale in any_scale()) {
        for (bits, (x, level)) in ALL.into_iter().zip(decoded(scale, k).into_iter().zip(table(k))) {
            let scalar = Code::from_bits(bits).decode(k);
            prop_assert_eq!(level.to_bits(), scalar.to_bits());
            prop_assert_eq!(x.to_bits(), (scale * scalar).to_bits());
        }
    }

    #[test]
    fn largest_magnitude_round_trips_exactly(k in any_curvature(), scale in any_scale()) {
        let x = [scale, -scale, 0.0, -0.0];
        let mut back = [1.0; 4];
        slice::decode(&encoded(x, scale, k), scale, k, &mut back).unwrap();
        prop_assert_eq!(back.map(f32::to_bits), x.map(f32::to_bits));
    }

    #[test]
    fn code_is_monotonic(t in 1e-6..1.0_f32, k in any_curvature()) {
        prop_assert!(k.compand(t) <= k.compand(t.next_up()));
        prop_assert!(k.expand(t) <= k.expand(t.next_up()));
        let magnitude = |t| Code::encode(t, k).unwrap().magnitude();
        prop_assert!(magnitude(t) <= magnitude(t.next_up()));
        prop_assert!(table(k)[..128].is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn expand_inverts_compand(t in 1e-6..=1.0_f32, k in 0.0..100.0_f32) {
        let k = curvature(k);
        prop_assert_eq!((k.compand(0.0), k.compand(1.0)), (0.0, 1.0));
        prop_assert_eq!((k.expand(0.0), k.expand(1.0)), (0.0, 1.0));
        // The slope of the inverse at v = 1 is 1+k, and so is the factor on v's rounding.
        prop_assert!((k.expand(k.compand(t)) - t).abs() <= 2.0 * f32::EPSILON * t * (1.0 + k.get()));
    }

    #[test]
    fn code_is_whole_value_form_stretched_to_scale(
        x in 0.0..=1.0_f32, scale in 1.0..10.0_f32, slope in 0.01..10.0_f32,
    ) {
        let slope = Alpha::new(slope).unwrap();
        let k = Curvature::from_alpha(slope, scale).unwrap();
        let stretched = encode_u(x, slope) / encode_u(scale, slope);
        prop_assert!((k.compand(x / scale) - stretched).abs() <= 8.0 * f32::EPSILON);
    }

    #[test]
    fn slice_encode_is_scalar_encode_of_x_over_scale(
        x in prop::collection::vec(-2.0..2.0_f32, 0..70),
        scale in 0.5..2.0_f32,
        k in any_curvature(),
    ) {
        let mut codes = vec![0; x.len()];
        slice::encode(&x, scale, k, &mut codes).unwrap();
        for (x, code) in x.iter().zip(codes) {
            prop_assert_eq!(Code::encode(x / scale, k), Some(Code::from_bits(code)));
        }
    }
}

#[test]
fn table_is_the_same_at_compile_time() {
    const AT_COMPILE_TIME: [f32; 256] = table(BENT);
    let k = std::hint::black_box(BENT);
    assert_eq!(AT_COMPILE_TIME.map(f32::to_bits), table(k).map(f32::to_bits));
}

#[test]
fn naive_compand_is_not_monotonic() {
    let falls = |map: fn(f32) -> f32| {
        let mut t = 0.25_f32;
        let mut falls = 0;
        while t < 0.5 {
            falls += u32::from(map(t) > map(t.next_up()));
            t = t.next_up();
        }
        falls
    };
    assert_eq!(falls(|t| BENT.compand(t)), 0);
    assert!(falls(|t| 1.75 * t / (1.0 + 0.75 * t)) > 0);
}

#[test]
fn naive_expand_misses_the_scale() {
    let naive = |q: f32, k: f32| q / (127.0 * (1.0 + k) - k * q);
    let curves = || (1..1000_u16).map(|n| f32::from(n) * 0.37);
    assert!(curves().all(|k| Code::from_bits(127).decode(curvature(k)) == 1.0));
    assert!(!curves().all(|k| naive(127.0, k) == 1.0));
}

#[test]
fn subnormal_levels_collapse() {
    let (k, scale) = (BENT, f32::from_bits(20));
    assert_ne!(encoded(decoded(scale, k), scale, k), ALL);
}

#[test]
fn linear_codes_round_ties_to_even() {
    let q = |t: f32| Code::encode(t, Curvature::LINEAR).unwrap().magnitude();
    for n in 0..=127_u8 {
        let t = f32::from(n) / 127.0;
        assert_eq!((q(t), q(t + 0.003), q(t - 0.003)), (n, n, n));
    }
    assert_eq!((q(0.5), q(0.5_f32.next_down())), (64, 63)); // 63.5
}

#[test]
fn value_beyond_scale_saturates() {
    for t in [1.0_f32.next_up(), 2.0, f32::MAX] {
        assert_eq!(Code::encode(t, BENT), Some(Code::from_bits(0x7f)));
        assert_eq!(Code::encode(-t, BENT), Some(Code::from_bits(0xff)));
    }
    // x/scale overflows, x does not.
    assert_eq!(encoded([f32::MAX, -1.0, 0.0], 1e-39, BENT), [0x7f, 0xff, 0]);
}

#[test]
fn zero_scale_gives_signed_zeros() {
    assert_eq!(encoded([0.0, -0.0, 1.0, -1.0], 0.0, BENT), [0, 0x80, 0, 0x80]);
    for (bits, x) in ALL.into_iter().zip(decoded(0.0, BENT)) {
        assert_eq!((x, x.is_sign_negative()), (0.0, bits >= 0x80));
    }
}

#[test]
fn non_finite_value_has_no_code() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(Code::encode(bad, BENT), None);
        for index in [0, 17, 39] {
            let mut x = [0.5; 40];
            x[index] = bad;
            x[39] = bad;
            let mut out = [7; 40];
            let error = slice::encode(&x, 1.0, BENT, &mut out).unwrap_err();
            assert_eq!(error, SliceError::NonFinite { index });
            assert_eq!(out, [7; 40], "written to before the error");
        }
    }
    assert_eq!(SliceError::NonFinite { index: 3 }.to_string(), "the input at index 3 is not finite");
}

#[test]
fn slice_length_mismatch_and_invalid_scale_are_rejected() {
    let lengths = SliceError::LengthMismatch { input: 3, output: 2 };
    assert_eq!(slice::encode(&[0.0; 3], 1.0, BENT, &mut [0; 2]), Err(lengths));
    assert_eq!(slice::decode(&[0; 3], 1.0, BENT, &mut [0.0; 2]), Err(lengths));
    assert_eq!(slice::encode_u(&[0.0; 3], Alpha::ONE, &mut [0.0; 2]), Err(lengths));
    assert_eq!(lengths.to_string(), "3 inputs do not fit 2 outputs");
    for bad in [-1.0, f32::INFINITY, f32::NAN] {
        let rejected = |result| matches!(result, Err(SliceError::Scale(_)));
        assert!(rejected(slice::encode(&[0.0], bad, BENT, &mut [0])));
        assert!(rejected(slice::decode(&[0], bad, BENT, &mut [0.0])));
    }
}

#[test]
fn curvature_out_of_range_is_rejected() {
    for bad in [-1e-9, Curvature::MAX.get().next_up(), f32::INFINITY, f32::NAN] {
        assert!(matches!(Curvature::new(bad), Err(ParameterError::Curvature(_))));
    }
    assert_eq!(Curvature::new(0.0), Ok(Curvature::LINEAR));
    assert_eq!(Curvature::new(65_536.0), Ok(Curvature::MAX));
    assert!(half::f16::MAX.to_f32() <= Curvature::MAX.get());
    assert!(table(Curvature::MAX)[1].is_normal());
    let steep = Alpha::new(1e30).unwrap();
    assert_eq!(Curvature::from_alpha(steep, 1e-30), Curvature::new(1e30 * 1e-30));
    assert!(Curvature::from_alpha(steep, 1.0).is_err());
    assert!(Curvature::from_alpha(Alpha::ONE, -1.0).is_err());
    assert_eq!(Curvature::new(-1.0).unwrap_err().to_string(), "curvature must be from 0 to 65536, not -1");
}
