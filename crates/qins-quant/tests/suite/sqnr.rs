//! SQNR of the schemes, and of int8 as the alternative to `q8`.

use qins_quant::{Alpha, Curves, EncodeOptions, EncodedTensor, FloatDtype, Form, Layout, Recipe, Scheme};

use crate::common::{Random, nmse};

const SHAPE: [usize; 2] = [64, 3072];

fn decibels(weights: &[f32], decoded: &[f32]) -> f64 {
    -10.0 * nmse(weights, decoded).log10()
}

fn q8(weights: &[f32], alpha: Option<f32>) -> Vec<f32> {
    let options = EncodeOptions { alpha: alpha.map(|a| Alpha::new(a).unwrap()), ..EncodeOptions::default() };
    let mut decoded = vec![0.0; weights.len()];
    let recipe = Recipe::new(Scheme::Q8, options);
    EncodedTensor::encode_as(weights, SHAPE, FloatDtype::F32, &recipe).unwrap().decode_into(&mut decoded);
    decoded
}

fn decoded(weights: &[f32], scheme: Scheme) -> Vec<f32> {
    let mut decoded = vec![0.0; weights.len()];
    EncodedTensor::encode(weights, SHAPE, scheme).unwrap().decode_into(&mut decoded);
    decoded
}

/// Symmetric integers with a scale per group, the group's largest magnitude.
fn integers(weights: &[f32], bits: usize, group: usize) -> Vec<f32> {
    let encode = |group: &[f32]| {
        let largest = ((1 << (bits - 1)) - 1) as f32;
        let step = group.iter().fold(0.0_f32, |max, w| max.max(w.abs())) / largest;
        group.iter().map(|w| (w / step).round() * step).collect::<Vec<_>>()
    };
    weights.chunks(group).flat_map(encode).collect()
}

fn gaussian() -> Vec<f32> {
    Random(11).normals(SHAPE[0] * SHAPE[1], 0.02)
}

fn student() -> Vec<f32> {
    let mut random = Random(12);
    (0..SHAPE[0] * SHAPE[1]).map(|_| (0.02 * random.student()) as f32).collect()
}

#[test]
fn q8_beats_int8_on_gaussian_and_more_on_heavy_tails() {
    for (name, weights, at_least, ahead) in
        [("Gaussian", gaussian(), 43.5, 2.0), ("Student-t(5)", student(), 41.4, 6.0)]
    {
        let (ours, theirs) =
            (decibels(&weights, &q8(&weights, None)), decibels(&weights, &integers(&weights, 8, SHAPE[1])));
        println!("{name}: q8 {ours:.2} dB, int8 {theirs:.2} dB");
        assert!(ours >= at_least, "{name}: q8 keeps {ours:.2} dB");
        assert!(ours >= theirs + ahead, "{name}: q8 keeps {ours:.2} dB, int8 {theirs:.2} dB");
    }
}

#[test]
fn fixed_alpha_collapses_codes_of_small_weights() {
    let weights = gaussian();
    let fitted = decibels(&weights, &q8(&weights, None));
    let one = decibels(&weights, &q8(&weights, Some(1.0)));
    println!("α = 1: {one:.2} dB");
    assert!(one < fitted - 20.0, "α = 1 keeps {one:.2} dB, a fitted curvature {fitted:.2} dB");
    let hundredth = q8(&weights, Some(0.01));
    assert!(hundredth.iter().all(|d| *d == 0.0), "α = 0.01 sends every weight below 0.39 to zero");
    // An α that suits their size works: fixing it is not the problem.
    let own = decibels(&weights, &q8(&weights, Some(50.0)));
    println!("α = 50: {own:.2} dB");
    assert!(own > one + 10.0, "α = 50 keeps {own:.2} dB, α = 1 {one:.2} dB");
}

#[test]
fn grouped_schemes_reach_their_sqnr() {
    let table = [
        (Scheme::Q8g, 47.0, 46.3),
        (Scheme::Q6, 35.2, 34.5),
        (Scheme::Q5, 29.1, 28.5),
        (Scheme::Q4, 23.0, 22.4),
        (Scheme::Q3, 16.4, 15.9),
    ];
    let (gaussian, student) = (gaussian(), student());
    for (scheme, of_gaussian, of_student) in table {
        let keeps = |weights| decibels(weights, &decoded(weights, scheme));
        let (g, t) = (keeps(&gaussian), keeps(&student));
        let Form::Grouped(layout) = scheme.form() else { panic!("not grouped") };
        // Integers in the same groups, whose f32 scales take more than twice the bits of the parameters here.
        let linear = |weights| decibels(weights, &integers(weights, layout.width().bits(), Layout::GROUP));
        let (lg, lt) = (linear(&gaussian), linear(&student));
        println!("{scheme}: Gaussian {g:.2} dB, Student-t(5) {t:.2} dB; integers {lg:.2} dB, {lt:.2} dB");
        assert!(g >= of_gaussian && t >= of_student, "{scheme} keeps {g:.2} dB and {t:.2} dB");
        assert!(g >= lg + 1.3 && t >= lt + 2.0, "{scheme}: integers keep {lg:.2} dB and {lt:.2} dB");
        // The rate–distortion bound of a Gaussian signal: 6.02 dB per bit.
        let bits =
            EncodedTensor::encode(&gaussian, SHAPE, scheme).unwrap().bytes() as f64 * 8.0 / gaussian.len() as f64;
        assert!(g < 6.03 * bits, "{scheme}");
    }
}

#[test]
fn grouped_fit_chooses_the_better_curves() {
    // Weights that were quantised in groups before, as of a former 4-bit checkpoint.
    let stepped: Vec<f32> = gaussian().chunks(32).flat_map(|group| integers(group, 4, 32)).collect();
    for (name, weights, linear) in [("whole steps", stepped, true), ("Student-t(5)", student(), false)] {
        for scheme in [Scheme::Q8g, Scheme::Q6] {
            let encode = |curves| {
                let options = EncodeOptions { curves, ..EncodeOptions::default() };
                EncodedTensor::encode_as(&weights, SHAPE, FloatDtype::F32, &Recipe::new(scheme, options)).unwrap()
            };
            let kept = |curves| decibels(&weights, &encode(Some(curves)).decode());
            let (flat, bent) = (kept(Curves::Flat), kept(Curves::Bent));
            println!("{name}, {scheme}: flat {flat:.2} dB, bent {bent:.2} dB");
            assert_eq!(flat > bent, linear, "{name}, {scheme}");
            let chosen = encode(None);
            assert_eq!(chosen.floats("curvature").unwrap()[0] == 0.0, linear, "{name}, {scheme}");
            assert_eq!(decibels(&weights, &chosen.decode()), flat.max(bent), "{name}, {scheme}");
        }
    }
}
