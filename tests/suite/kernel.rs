//! Products in Burn against the naive product on slices, and the two ways to decode against each other.

use burn::{
    module::Param,
    nn::Linear,
    tensor::{DType, Int, Tensor, TensorData},
};
use qins_burn::{
    Projection,
    kernel::{Matrix, Part},
};
use qins_quant::{Alpha, EncodeOptions, Recipe, Scheme};
use qins_quant::{EncodedTensor, FloatDtype, kernel};

use crate::common::{device, on_cpu, values};

/// Deterministic numbers in (−1, 1), dense near zero as weights are.
fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let x = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
            x * x * x
        })
        .collect()
}

/// Mean squared error over mean square.
fn nmse(found: &[f32], truth: &[f64]) -> f64 {
    assert_eq!(found.len(), truth.len());
    let error: f64 = found.iter().zip(truth).map(|(f, t)| (f64::from(*f) - t).powi(2)).sum();
    error / truth.iter().map(|t| t * t).sum::<f64>().max(f64::MIN_POSITIVE)
}

/// The squared rounding error of an f32 sum, with a margin: (100·2⁻²⁴)² ≈ 4e-11; more for codes on CPUs, which are multiplied as
/// integers.
fn product_nmse(scheme: Scheme) -> f64 {
    let floats = [Scheme::CompandedF32, Scheme::Lossless, Scheme::Rate].contains(&scheme);
    if floats || !on_cpu() { 4e-11 } else { kernel::INTEGER_NMSE }
}

/// With whole groups and parts of groups, and one tile and several.
const SHAPES: [[usize; 2]; 9] = [[1, 1], [1, 9], [7, 1], [5, 3], [17, 31], [64, 48], [33, 97], [70, 288], [9, 544]];

fn forms(weights: &[f32], shape: [usize; 2]) -> Vec<(String, Projection, EncodedTensor)> {
    let mut forms = Vec::new();
    for source in [FloatDtype::F32, FloatDtype::F16, FloatDtype::Bf16] {
        for (scheme, alpha) in Scheme::ALL.map(|s| (s, None)).into_iter().chain([(Scheme::CompandedF32, Some(3.7))]) {
            // Other schemes decode independently of the source's type.
            if source != FloatDtype::F32 && ![Scheme::CompandedF32, Scheme::Lossless].contains(&scheme) {
                continue;
            }
            let options = EncodeOptions { alpha: alpha.map(|a| Alpha::new(a).unwrap()), ..EncodeOptions::default() };
            let weights: Vec<f32> = weights.iter().map(|&w| source.round(w)).collect();
            let encoded = EncodedTensor::encode_as(&weights, shape, source, &Recipe::new(scheme, options)).unwrap();
            let name = format!("{scheme} α={alpha:?} of {source:?}");
            forms.push((name, Projection::new(encoded.clone(), &device()), encoded));
        }
    }
    forms
}

#[test]
fn products_are_within_bound_of_naive_product() {
    for shape @ [rows, cols] in SHAPES {
        let mut weights = numbers(rows * cols, 7);
        // The first is near 0: a matrix of nothing else would be rejected.
        weights[0] = 0.5;
        for (name, projection, encoded) in forms(&weights, shape) {
            assert_eq!(projection.shape(), shape);
            for m in [1, 2, 4, 5, 70] {
                let x = numbers(m * cols, 11);
                let y = projection.forward(Tensor::from_data(TensorData::new(x.clone(), [m, cols]), &device()));
                assert_eq!(y.dims(), [m, rows]);
                let truth = kernel::naive(encoded.rows(), shape, &x);
                let error = nmse(&values(y), &truth);
                let bound = product_nmse(encoded.scheme());
                assert!(error <= bound, "{name} {shape:?} × {m}: NMSE {error}");
                // Control: one wrong weight exceeds the bound. All others are the decoded weights, so that the scheme's rounding
                // does not.
                let mut wrong = vec![0.0; rows * cols];
                encoded.decode_into(&mut wrong);
                // In the column with the largest input, where it has the largest effect.
                let col = (0..cols).max_by(|&a, &b| x[a].abs().total_cmp(&x[b].abs())).unwrap();
                wrong[(rows - 1) * cols + col] += 0.5;
                let dense = Projection::plain(&wrong, shape, FloatDtype::F32, &device());
                let y = dense.forward(Tensor::from_data(TensorData::new(x, [m, cols]), &device()));
                assert!(nmse(&values(y), &truth) > bound, "{name} {shape:?} × {m}: the control passed");
            }
        }
    }
}

/// The relative distance of adjacent weights if the form rounds them, otherwise a few ulp.
fn step(encoded: &EncodedTensor) -> f32 {
    match (encoded.scheme(), encoded.source()) {
        (Scheme::CompandedF32, FloatDtype::Bf16) => 0.0079,
        (Scheme::CompandedF32, FloatDtype::F16) => 0.00098,
        _ => 1e-6,
    }
}

#[test]
fn looked_up_rows_equal_decoded_rows() {
    for shape @ [rows, cols] in SHAPES {
        let weights = numbers(rows * cols, 3);
        for (name, projection, encoded) in forms(&weights, shape) {
            let ids: Vec<u32> = (0..rows as u32).rev().collect();
            let found = values(projection.rows(&ids));
            let mut expected = vec![0.0; rows * cols];
            encoded.decode_into(&mut expected);
            for (i, row) in expected.chunks(cols).rev().enumerate() {
                for (f, e) in found[i * cols..][..cols].iter().zip(row) {
                    // CPUs are bit-identical. GPUs may divide to within 2.5 ulp, and then round to the adjacent value.
                    let tolerance = if on_cpu() { 0.0 } else { e.abs() * step(&encoded) };
                    assert!(
                        f.to_bits() == e.to_bits() || (f - e).abs() <= tolerance && tolerance > 0.0,
                        "{name} {shape:?}: {f}, not {e}"
                    );
                }
            }
        }
    }
}

/// More rows than a GPU allows workgroups in one dimension.
#[test]
fn matrix_may_have_more_rows_than_a_grid_dimension() {
    let rows = 131_080;
    let weights: Vec<f32> = (0..rows).map(|row| row as f32).collect();
    let projection = Projection::plain(&weights, [rows, 1], FloatDtype::F32, &device());
    assert_eq!(values(projection.forward(Tensor::ones([1, 1], &device()))), weights);
    let ids: Vec<u32> = (0..33_000).collect();
    assert_eq!(values(projection.rows(&ids)), weights[..33_000]);
}

/// Kernels read no lengths, so they would read past the end.
#[test]
#[should_panic(expected = "expected part `scale` to be ([4, 1], U32), found ([1, 1], U32)")]
fn matrix_with_too_few_scales_panics() {
    let words = |shape: [usize; 2]| Part::Words(Tensor::<2, Int>::zeros(shape, (&device(), DType::U32)));
    let format = Recipe::from(Scheme::Q8).format(FloatDtype::F32, 8);
    Matrix::new(format, 4, vec![words([4, 2]), words([1, 1]), words([4, 1])]);
}

/// Burn stores linears transposed.
#[test]
fn burn_linear_converts_to_projection() {
    let weight = Tensor::<2>::from_data([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]], &device());
    let burn = Linear { weight: Param::from_tensor(weight), bias: None };
    let projection = Projection::from(burn);
    assert_eq!(projection.shape(), [3, 2]);
    let x = Tensor::<2>::from_data([[1.0, 1.0], [2.0, 0.5]], &device());
    assert_eq!(values(projection.forward(x)), [11.0, 22.0, 33.0, 7.0, 14.0, 21.0]);
}
