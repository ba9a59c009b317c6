//! Error feedback, as users of the crate see it.

use std::sync::Arc;

use proptest::prelude::*;
use qins_quant::{
    Effort, EncodeError, EncodeOptions, EncodedTensor, FloatDtype, Hessian, Prune, Rate, Recipe, Scheme, kernel::Rows,
};

use crate::common::{Random, bits};

/// Those that use feedback.
const SCHEMES: [Scheme; 6] = [Scheme::Q3, Scheme::Q4, Scheme::Q5, Scheme::Q6, Scheme::Q8g, Scheme::Rate];

fn recipe(scheme: Scheme, hessian: &Hessian, effort: Effort) -> Recipe {
    let options = EncodeOptions { effort, ..EncodeOptions::default() };
    Recipe { feedback: Some(Arc::new(hessian.feedback(0.1, effort).unwrap())), ..Recipe::new(scheme, options) }
}

fn encode(weights: &[f32], shape: [usize; 2], recipe: &Recipe) -> EncodedTensor {
    EncodedTensor::encode_as(weights, shape, FloatDtype::F32, recipe).unwrap()
}

fn errors(weights: &[f32], encoded: &EncodedTensor) -> Vec<f32> {
    weights.iter().zip(encoded.decode()).map(|(w, q)| w - q).collect()
}

fn gaussian(n: usize, seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    (0..n).map(|_| random.normal() as f32 * 0.02).collect()
}

/// Moments of inputs in which channels share a few directions, as those of a language model do.
fn moments(inputs: usize, cols: usize, seed: u64) -> Hessian {
    let mut random = Random(seed);
    let directions: Vec<f32> = (0..8 * cols).map(|_| random.normal() as f32).collect();
    let mut x = Vec::new();
    for _ in 0..inputs {
        let shares: Vec<f32> = (0..8).map(|_| random.normal() as f32).collect();
        x.extend((0..cols).map(|col| {
            let shared: f32 = shares.iter().zip(directions[col..].iter().step_by(cols)).map(|(s, d)| s * d).sum();
            shared + random.normal() as f32
        }));
    }
    let mut hessian = Hessian::new(cols);
    hessian.add(&x).unwrap();
    hessian
}

/// Moments that are a multiple of the identity.
fn identity(cols: usize) -> Hessian {
    let mut hessian = Hessian::new(cols);
    let unit: Vec<f32> = (0..cols * cols).map(|i| if i / cols == i % cols { 3.0 } else { 0.0 }).collect();
    hessian.add(&unit).unwrap();
    hessian
}

#[test]
fn feedback_of_independent_inputs_gives_the_fit_without_feedback() {
    for (rows, cols) in [(3, 256), (70, 300), (2, 31), (1, 1)] {
        let mut weights = gaussian(rows * cols, 5);
        // A group of zeros, and a super-block of zeros where there is one.
        weights[..cols.min(32)].fill(0.0);
        weights[(rows - 1) * cols..].iter_mut().take(256).for_each(|w| *w = 0.0);
        for scheme in SCHEMES {
            let plain = encode(&weights, [rows, cols], &scheme.into());
            assert_eq!(
                encode(&weights, [rows, cols], &recipe(scheme, &identity(cols), Effort::Good)),
                plain,
                "{scheme}"
            );
        }
    }
}

#[test]
fn feedback_lowers_the_error_of_products_and_a_perturbed_hessian_is_noticed() {
    let [rows, cols] = [48, 320];
    let (weights, hessian) = (gaussian(rows * cols, 1), moments(2000, cols, 2));
    for scheme in SCHEMES {
        let of = |recipe: &Recipe| hessian.energy(&errors(&weights, &encode(&weights, [rows, cols], recipe)));
        let (plain, good) = (of(&scheme.into()), of(&recipe(scheme, &hessian, Effort::Good)));
        let best = of(&recipe(scheme, &hessian, Effort::Best));
        // The codes of `rate` are not adjusted: each has its cost in bits.
        let adjusted = if scheme == Scheme::Rate { best == good } else { best < 0.98 * good };
        assert!(good < 0.5 * plain && adjusted, "{scheme}: {plain}, {good}, {best}");
        // The moments of other inputs: their feedback makes up for what these inputs do not have.
        let other = of(&recipe(scheme, &moments(2000, cols, 3), Effort::Good));
        assert!(other > 1.5 * good, "{scheme}: {other} with other moments, {good} with its own");
    }
}

#[test]
fn rate_with_feedback_costs_the_bits_that_were_asked_for() {
    let [rows, cols] = [256, 512];
    let (weights, hessian) = (gaussian(rows * cols, 7), moments(2000, cols, 7));
    let with = recipe(Scheme::Rate, &hessian, Effort::Good);
    for asked in [2.0, 3.0, 4.0] {
        let options = EncodeOptions { rate: Rate::Bits(asked), ..with.options };
        let bits = |recipe: Recipe| {
            let encoded = encode(&weights, [rows, cols], &recipe);
            8.0 * encoded.file_bytes(true).unwrap() as f64 / weights.len() as f64
        };
        let found = bits(Recipe { options, ..with.clone() });
        assert!((asked - 0.05..=asked + 0.01).contains(&found), "{asked}: {found}");
        // Control: the step of the fit without feedback costs more, since what makes up for errors is larger than the weights.
        let step = encode(&weights, [rows, cols], &Recipe::new(Scheme::Rate, options));
        let Rows::Rate { step, .. } = step.rows() else { panic!("whole numbers") };
        let same_step = EncodeOptions { rate: Rate::Step(step), ..options };
        assert!(bits(Recipe { options: same_step, ..with.clone() }) > found, "{asked}");
    }
}

#[test]
fn rate_rounds_columns_by_their_inputs_whatever_order_they_are_stored_in() {
    let [rows, cols] = [64, 320];
    let mut random = Random(11);
    // Rows of inputs with a share in common; the larger, the later the column.
    let inputs: Vec<f32> = (0..1500)
        .flat_map(|_| {
            let shared = 2.0 * random.normal() as f32;
            (0..cols).map(|col| (shared + random.normal() as f32) * (1 + col) as f32).collect::<Vec<_>>()
        })
        .collect();
    let weights = gaussian(rows * cols, 12);
    let reversed = |x: &[f32]| x.chunks(cols).flat_map(|row| row.iter().rev().copied()).collect::<Vec<f32>>();
    let error = |scheme: Scheme, [weights, inputs]: [&[f32]; 2]| {
        let mut hessian = Hessian::new(cols);
        hessian.add(inputs).unwrap();
        let mut recipe = recipe(scheme, &hessian, Effort::Good);
        recipe.options.rate = Rate::Step(0.005);
        hessian.energy(&errors(weights, &encode(weights, [rows, cols], &recipe)))
    };
    let ratio = |scheme| error(scheme, [&weights, &inputs]) / error(scheme, [&reversed(&weights), &reversed(&inputs)]);
    assert!((ratio(Scheme::Rate) - 1.0).abs() < 0.01, "{}", ratio(Scheme::Rate));
    // Control: the groups of q4 are rounded in the order in which they are stored, and so the largest inputs last.
    assert!(ratio(Scheme::Q4) > 1.1, "{}", ratio(Scheme::Q4));
}

#[test]
fn bytes_are_the_same_on_any_number_of_threads() {
    let [rows, cols] = [200, 700];
    let weights = gaussian(rows * cols, 3);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let hessian = moments(1000, cols, 4);
            [(Scheme::Q4, Effort::Good), (Scheme::Q4, Effort::Best), (Scheme::Rate, Effort::Good)]
                .map(|(scheme, effort)| encode(&weights, [rows, cols], &recipe(scheme, &hessian, effort)))
        })
    };
    let one = on(1);
    assert!(one == on(3) && one == on(8));
    assert_ne!(one[0], one[1], "effort makes a difference");
}

#[test]
fn fast_effort_and_pruning_do_without_feedback() {
    let (weights, hessian) = (gaussian(4 * 64, 6), moments(300, 64, 6));
    let plain = encode(&weights, [4, 64], &Scheme::Q4.into());
    let mut fast = recipe(Scheme::Q4, &hessian, Effort::Best);
    fast.options.effort = Effort::Fast;
    assert_eq!(encode(&weights, [4, 64], &fast), plain);
    let mut pruned = recipe(Scheme::Q4, &hessian, Effort::Good);
    pruned.options.prune = Prune::new(0.5).unwrap();
    let zeros = encode(&weights, [4, 64], &pruned).decode().iter().filter(|w| **w == 0.0).count();
    assert!(zeros >= 128, "{zeros}");
    // Schemes that do not use it ignore it.
    assert!(!Scheme::Q8.uses_feedback() && SCHEMES.iter().all(|scheme| scheme.uses_feedback()));
    let row = recipe(Scheme::Q8, &hessian, Effort::Good);
    assert_eq!(encode(&weights, [4, 64], &row), encode(&weights, [4, 64], &Scheme::Q8.into()));
}

#[test]
fn energy_of_the_factor_is_that_of_the_moments() {
    let (hessian, rows) = (moments(500, 130, 8), gaussian(70 * 130, 9));
    for effort in [Effort::Good, Effort::Best] {
        let (expected, found) = (hessian.energy(&rows), hessian.feedback(0.1, effort).unwrap().energy(&rows));
        assert!((found / expected - 1.0).abs() < 1e-4, "{found} for {expected}");
    }
}

#[test]
fn feedback_of_another_width_is_rejected() {
    let recipe = recipe(Scheme::Q4, &identity(32), Effort::Good);
    let error = EncodedTensor::encode_as(&[0.0; 64], [1, 64], FloatDtype::F32, &recipe).unwrap_err();
    assert_eq!(error, EncodeError::Length { expected: [1, 64], found: 32 });
}

proptest! {
    #[test]
    fn more_effort_is_never_worse(seed in any::<u64>(), rows in 1..6_usize, cols in 1..90_usize, scheme in 0..6_usize) {
        let (weights, hessian) = (gaussian(rows * cols, seed), moments(40, cols, seed ^ 1));
        let error = |effort| {
            let encoded = encode(&weights, [rows, cols], &recipe(SCHEMES[scheme], &hessian, effort));
            let errors = errors(&weights, &encoded);
            assert!(errors.iter().all(|e| e.is_finite()));
            // With the damping that the encoder adds.
            let mean = hessian.mean_squares().unwrap().iter().map(|m| f64::from(*m)).sum::<f64>() / cols as f64;
            hessian.energy(&errors) + 0.1 * mean * errors.iter().map(|e| f64::from(*e).powi(2)).sum::<f64>()
        };
        let (good, best) = (error(Effort::Good), error(Effort::Best));
        prop_assert!(best <= good * 1.0001, "{best} after {good}");
    }

    #[test]
    fn zeros_stay_zeros_whatever_the_inputs(seed in any::<u64>(), cols in 1..300_usize) {
        let encoded = encode(&vec![0.0; 2 * cols], [2, cols], &recipe(Scheme::Q3, &moments(20, cols, seed), Effort::Best));
        prop_assert_eq!(bits(&encoded.decode()), vec![0; 2 * cols]);
    }
}
