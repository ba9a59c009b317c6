//! Properties tested on every bit pattern: all of bf16 always, all of f32 with `QINS_EXHAUSTIVE=1`
//! (about 15 s on one core), every 4,099th of them without.

use std::thread;

use half::bf16;
use qins_codec::{Alpha, Code, Curvature, decode_u, decode_z, encode_u, encode_z};

type Map = fn(f32, Alpha) -> f32;

/// Whether a bf16 comes back as the same bits, encoded and decoded in f32.
fn survives(x: bf16, alpha: Alpha, [encode, decode]: [Map; 2]) -> bool {
    let back = bf16::from_f32(decode(encode(x.to_f32(), alpha), alpha));
    back.to_bits() == x.to_bits() || back.is_nan() && x.is_nan()
}

fn every_bf16() -> impl Iterator<Item = bf16> {
    (0..=u16::MAX).map(bf16::from_bits)
}

#[test]
fn bf16_weights_survive_the_whole_value_form() {
    const U: [Map; 2] = [encode_u, decode_u];
    const Z: [Map; 2] = [encode_z, decode_z];
    let two = 2.0_f64;
    let u_holds = two.powi(-140)..=two.powi(16);
    let z_holds = two.powi(-15)..=two.powi(127);

    for alpha in [1.0, 0.37, 3.0, 47.3, 1024.0, 1e-3, 1e-10, 1e10, 1e-38, 1e38, 1.999_999_9] {
        let slope = Alpha::new(alpha).unwrap();
        // Of the inputs outside each form's range: how many, and how many it fails.
        let (mut u_outside, mut u_lost, mut z_outside, mut z_lost) = (0, 0, 0, 0);
        for x in every_bf16() {
            let a = (x.to_f64() * f64::from(alpha)).abs();
            let (u, z) = (survives(x, slope, U), survives(x, slope, Z));
            if u_holds.contains(&a) || a == 0.0 || !x.is_finite() {
                assert!(u, "u, α = {alpha}, x = {x:e}");
            } else {
                u_outside += 1;
                u_lost += u32::from(!u);
            }
            if z_holds.contains(&a) || a == 0.0 || !x.is_finite() {
                assert!(z, "z, α = {alpha}, x = {x:e}");
            } else {
                z_outside += 1;
                z_lost += u32::from(!z);
            }
        }
        // The ranges are tight: nearly every value outside them fails to round-trip. At the
        // extreme slopes, the whole of bf16 can be inside one of them.
        assert!(u_lost * 100 >= u_outside * 95, "{alpha}: {u_lost} of {u_outside}");
        assert!(z_lost * 100 >= z_outside * 95, "{alpha}: {z_lost} of {z_outside}");
        if (1e-10..=1e10).contains(&alpha) {
            assert!(u_lost > 20_000 && z_lost > 20_000);
        }
    }
}

/// Ascending patterns without the sign bit; the negative of each is tried with it.
fn check_f32(patterns: impl Iterator<Item = u32>) {
    let k = Curvature::new(0.75).unwrap();
    let alpha = Alpha::new(47.3).unwrap();
    let eps = f64::from(f32::EPSILON);
    let (mut last_u, mut last_z, mut last_q) = (0.0, 1.0, 0);
    for bits in patterns {
        let x = f32::from_bits(bits);
        let (u, z) = (encode_u(x, alpha), encode_z(x, alpha));
        let code = Code::encode(x, k);
        if x.is_nan() {
            assert!(u.is_nan() && z.is_nan() && code.is_none(), "{bits:#x}");
            continue;
        }
        assert!((0.0..=1.0).contains(&u) && u >= last_u, "{bits:#x}: u = {u}");
        assert!((0.0..=1.0).contains(&z) && z <= last_z, "{bits:#x}: z = {z}");
        assert_eq!(encode_u(-x, alpha).to_bits(), (-u).to_bits());
        assert_eq!(encode_z(-x, alpha).to_bits(), (-z).to_bits());
        (last_u, last_z) = (u, z);

        let a = f64::from(x) * f64::from(alpha.get());
        if a >= f64::from(f32::MIN_POSITIVE) && a <= 65_536.0 {
            let back = f64::from(decode_u(u, alpha));
            let bound = eps * (4.0 + a) * f64::from(x);
            assert!((back - f64::from(x)).abs() <= bound, "{bits:#x}: {back}");
        }
        match code {
            Some(code) => {
                assert!(code.sign() == 1.0 && code.magnitude() >= last_q, "{bits:#x}");
                let negative = Code::from_bits(code.to_bits() | 0x80);
                assert_eq!(Code::encode(-x, k), Some(negative));
                last_q = code.magnitude();
            }
            None => assert_eq!(x, f32::INFINITY),
        }
    }
}

#[test]
fn f32_patterns() {
    let every = std::env::var_os("QINS_EXHAUSTIVE").is_some_and(|on| on == "1");
    let step = if every { 1 } else { 4_099 };
    if !every {
        println!("one f32 pattern in {step}; QINS_EXHAUSTIVE=1 tries them all");
    }
    // Runs overlap by one pattern, so that monotonicity holds across them as well.
    let patterns = 1_u32 << 31;
    let threads = thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let run = patterns / threads + 1;
    thread::scope(|scope| {
        for first in (0..patterns).step_by(run as usize) {
            let last = (first + run).min(patterns - 1);
            scope.spawn(move || check_f32((first..=last).step_by(step)));
        }
    });
}
