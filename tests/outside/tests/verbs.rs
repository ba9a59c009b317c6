//! Tests of the functions.

use std::path::Path;

const ATLAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/qins/assets/atlas");

#[test]
fn saved_matrix_product_is_close_to_the_plain_product() {
    let weights: Vec<f32> = (0..64 * 256).map(|i: i32| ((i * 7919 % 2001) - 1000) as f32 / 25_000.0).collect();
    let x: Vec<f32> = (0..256).map(|i| if i % 3 == 0 { 1.0 } else { -0.5 }).collect();
    let dir = tempfile::tempdir().unwrap();
    let y = outside::matrix(&weights, [64, 256], &x, &dir.path().join("matrix.safetensors")).unwrap();
    let exact = |row: &[f32]| row.iter().zip(&x).map(|(w, x)| w * x).sum::<f32>();
    let expected: Vec<f32> = weights.chunks(256).map(exact).collect();
    let error: f32 = y.iter().zip(&expected).map(|(y, e)| (y - e).powi(2)).sum();
    let energy: f32 = x.iter().map(|x| x * x).sum::<f32>() * weights.iter().map(|w| w * w).sum::<f32>() / 256.0;
    // Four bits keep 20 dB and more of weights that are spread evenly.
    assert!(error > 0.0 && error < 0.01 * energy, "{error} of {energy}");
}

#[test]
fn converted_model_is_smaller_and_generates() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("q4");
    let written = outside::checkpoint(Path::new(ATLAS), &to).unwrap();
    assert!(written.bytes_after < written.bytes_before / 2, "{written:?}");
    assert!(outside::checkpoint(&to, &dir.path().join("again")).unwrap_err().to_string().contains("encoded already"));
}

#[test]
fn encoded_model_continues_a_text() {
    let text = outside::model(ATLAS, "The capital of France is").unwrap();
    assert!(text.contains("Paris"), "{text}");
    assert!(outside::model("nowhere at all", "x").is_err());
}
