//! Properties of the whole-value form on random inputs; `exhaustive.rs` tests every input.
//! Naive formulas that violate a property are tested too, to show that the test can fail.

use proptest::prelude::*;
use qins_codec::{Alpha, ParameterError, decode_u, decode_z, encode_u, encode_z, slice};

const EPS: f64 = f32::EPSILON as f64;

fn alpha(alpha: f32) -> Alpha {
    Alpha::new(alpha).unwrap()
}

/// Powers of two and what lies between them, equally likely in every octave.
fn octaves(from: f32, to: f32) -> impl Strategy<Value = f32> {
    (from.log2()..to.log2()).prop_map(f32::exp2)
}

/// The report's formulas, with its sign(0) = 0.
mod report {
    fn sign(x: f32) -> f32 {
        if x == 0.0 { 0.0 } else { x.signum() }
    }

    pub(crate) fn encode(x: f32) -> f32 {
        sign(x) / (1.0 + x.abs())
    }

    pub(crate) fn decode(z: f32) -> f32 {
        sign(z) * (1.0 - z.abs()) / z.abs()
    }
}

/// The naive formula of u.
fn naive_u(a: f32) -> f32 {
    a / (1.0 + a)
}

proptest! {
    #[test]
    fn maps_match_formula_in_f64(a in octaves(1e-30, 1e30), slope in octaves(1e-6, 1e6)) {
        let (x, a) = (a / slope, f64::from(a / slope) * f64::from(slope));
        let (u, z) = (a / (1.0 + a), 1.0 / (1.0 + a));
        prop_assert!((f64::from(encode_u(x, alpha(slope))) - u).abs() <= 2.0 * EPS * u);
        prop_assert!((f64::from(encode_z(x, alpha(slope))) - z).abs() <= 2.0 * EPS * z);
        prop_assert!((encode_u(f64::from(x), alpha(slope)) - u).abs() <= 1e-15 * u);
        prop_assert!((encode_z(f64::from(x), alpha(slope)) - z).abs() <= 1e-15 * z);
    }

    #[test]
    fn u_round_trips_small_values_and_z_large_ones(
        a in octaves(1e-30, 1e30),
        slope in octaves(1e-6, 1e6),
    ) {
        let (x, slope) = (a / slope, alpha(slope));
        let error = |back: f32| (f64::from(back) / f64::from(x) - 1.0).abs();
        let (by_u, by_z) = (
            error(decode_u(encode_u(x, slope), slope)),
            error(decode_z(encode_z(x, slope), slope)),
        );
        if a < 1e6 {
            prop_assert!(by_u <= EPS * (4.0 + f64::from(a)), "u: {by_u}");
        } else if a > 1e9 {
            prop_assert_eq!(by_u, f64::INFINITY);
        }
        if a > 1e-6 {
            prop_assert!(by_z <= EPS * (4.0 + 1.0 / f64::from(a)), "z: {by_z}");
        } else if a < 1e-9 {
            prop_assert_eq!(by_z, 1.0);
        }
    }

    #[test]
    fn reencoding_decoded_value_is_stable_within_rounding(
        y in prop_oneof![octaves(1e-30, 1.0), 0.0..=1.0_f32],
        slope in octaves(1e-6, 1e6),
    ) {
        let slope = alpha(slope);
        let close = |again: f32| (again - y).abs() <= 4.0 * f32::EPSILON * y;
        prop_assert!(close(encode_u(decode_u(y, slope), slope)));
        prop_assert!(close(encode_z(decode_z(y, slope), slope)));
    }

    #[test]
    fn maps_are_odd(bits: u32, slope in octaves(1e-30, 1e30)) {
        let (x, slope) = (f32::from_bits(bits), alpha(slope));
        for map in [encode_u::<f32>, decode_u, encode_z, decode_z] {
            prop_assert_eq!(map(-x, slope).to_bits(), (-map(x, slope)).to_bits());
            prop_assert_eq!(map(x, slope).is_sign_negative(), x.is_sign_negative());
        }
    }

    #[test]
    fn maps_are_monotonic_between_adjacent_floats(
        x in octaves(1e-37, 1e37),
        y in prop_oneof![octaves(1e-37, 1.0), 0.0..1.0_f32],
        slope in octaves(1e-30, 1e30),
    ) {
        let slope = alpha(slope);
        prop_assert!(encode_u(x, slope) <= encode_u(x.next_up(), slope));
        prop_assert!(encode_z(x, slope) >= encode_z(x.next_up(), slope));
        prop_assert!(decode_u(y, slope) <= decode_u(y.next_up(), slope));
        prop_assert!(decode_z(y, slope) >= decode_z(y.next_up(), slope));
    }

    #[test]
    fn slice_and_scalar_are_bit_identical(bits in prop::collection::vec(any::<u32>(), 0..70), slope in octaves(1e-6, 1e6)) {
        let (x, slope) = (bits.into_iter().map(f32::from_bits).collect::<Vec<_>>(), alpha(slope));
        let mut out = vec![0.0; x.len()];
        macro_rules! check {
            ($($map:ident)*) => {$(
                slice::$map(&x, slope, &mut out).unwrap();
                for (x, out) in x.iter().zip(&out) {
                    prop_assert_eq!($map(*x, slope).to_bits(), out.to_bits());
                }
            )*};
        }
        check!(encode_u decode_u encode_z decode_z);
    }
}

#[test]
fn naive_quotient_is_not_monotonic() {
    let falls = |map: fn(f32) -> f32| {
        let mut x = 0.25_f32;
        let mut falls = 0;
        while x < 1.0 {
            falls += u32::from(map(x) > map(x.next_up()));
            x = x.next_up();
        }
        falls
    };
    assert_eq!(falls(|x| encode_u(x, Alpha::ONE)), 0);
    assert!(falls(naive_u) > 0);
}

#[test]
fn zero_keeps_its_sign() {
    for zero in [0.0_f32, -0.0] {
        let (u, z) = (encode_u(zero, Alpha::ONE), encode_z(zero, Alpha::ONE));
        assert_eq!(u.to_bits(), zero.to_bits());
        assert_eq!(z, 1.0_f32.copysign(zero));
        assert_eq!(decode_u(u, Alpha::ONE).to_bits(), zero.to_bits());
        assert_eq!(decode_z(z, Alpha::ONE).to_bits(), zero.to_bits());
        assert!(report::decode(report::encode(zero)).is_nan());
    }
    assert_eq!(report::decode(report::encode(-3.0)), -3.0);
}

#[test]
fn infinity_and_overflow_map_to_the_ends() {
    let steep = alpha(f32::MAX);
    for (x, slope) in [(f32::INFINITY, Alpha::ONE), (2.0, steep), (f32::MAX, steep)] {
        assert_eq!(encode_u(x, slope), 1.0);
        assert_eq!(encode_z(-x, slope).to_bits(), (-0.0_f32).to_bits());
        assert!(naive_u(x * slope.get()).is_nan());
    }
    for slope in [Alpha::ONE, steep, alpha(f32::from_bits(1))] {
        assert_eq!(decode_u(-1.0, slope), f32::NEG_INFINITY);
        assert_eq!(decode_z(-0.0, slope), f32::NEG_INFINITY);
    }
    // A quotient that overflows only because α is small.
    assert_eq!(decode_u(0.5, alpha(1e-39)), f32::INFINITY);
    assert_eq!(decode_u(0.5_f32, alpha(1e-38)), 1.0 / 1e-38);
}

#[test]
fn u_range_ends_where_documented() {
    let below_one = |a: f32| encode_u(a, Alpha::ONE) < 1.0;
    assert!(below_one(2_f32.powi(24).next_down()));
    assert!(!below_one(2_f32.powi(25)));
    // 1/x overflows for these, and u equals x.
    for x in [f32::from_bits(1), f32::MIN_POSITIVE.next_down(), 1e-30] {
        assert_eq!(encode_u(x, Alpha::ONE), x);
        assert_eq!(decode_u(x, Alpha::ONE), x);
    }
    assert_ne!(encode_u(f32::EPSILON, Alpha::ONE), f32::EPSILON);
}

#[test]
fn nan_and_codes_of_no_value_decode_to_nan() {
    for y in [1.0_f32.next_up(), -2.0, f32::MAX, f32::INFINITY, f32::NAN] {
        assert!(decode_u(y, Alpha::ONE).is_nan(), "{y}");
        assert!(decode_z(y, Alpha::ONE).is_nan(), "{y}");
    }
    assert!(encode_u(f32::NAN, Alpha::ONE).is_nan());
    assert!(encode_z(f32::NAN, Alpha::ONE).is_nan());
}

#[test]
fn alpha_out_of_range_is_rejected() {
    for bad in [0.0, -0.0, -1.0, f32::INFINITY, f32::NAN] {
        assert!(matches!(Alpha::new(bad), Err(ParameterError::Alpha(_))));
    }
    for good in [f32::from_bits(1), 1.0, f32::MAX] {
        assert_eq!(alpha(good).get(), good);
    }
    assert_eq!(Alpha::new(-1.0).unwrap_err().to_string(), "alpha must be positive and finite, not -1");
}

#[cfg(feature = "half")]
#[test]
fn half_maps_are_f32_maps_rounded() {
    use half::{bf16, f16};
    for bits in 0..=u16::MAX {
        macro_rules! check {
            ($half:ident: $($map:ident)*) => {$(
                let x = $half::from_bits(bits);
                let through_f32 = $half::from_f32($map(x.to_f32(), Alpha::ONE));
                assert_eq!($map(x, Alpha::ONE).to_bits(), through_f32.to_bits(), "{x}");
            )*};
        }
        check!(bf16: encode_u decode_u encode_z decode_z);
        check!(f16: encode_u decode_u encode_z decode_z);
    }
}
