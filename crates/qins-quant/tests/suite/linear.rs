//! The product against its definition.

use qins_quant::{
    EncodeOptions, EncodedTensor, FloatDtype, Scheme,
    kernel::{Rows, linear, naive},
};
use rayon::ThreadPoolBuilder;

use crate::common::{Random, bits};

/// The unit roundoff of `f32`.
const U: f64 = f32::EPSILON as f64 / 2.0;

const COLS: [usize; 9] = [1, 2, 3, 7, 16, 33, 64, 129, 300];
const ROWS: [usize; 7] = [0, 1, 2, 5, 24, 31, 70];
const BATCH: [usize; 6] = [0, 1, 2, 3, 17, 130];

fn run(w: Rows<'_>, [rows, cols]: [usize; 2], x: &[f32]) -> Vec<f32> {
    let mut y = vec![f32::NAN; x.len() / cols * rows];
    linear(w, [rows, cols], x, &mut y);
    y
}

/// Why `y` is not the product, if it is not.
///
/// Of a sum of n products in any order, with or without fused operations, |ŷ − y| ≤ γₙ·Σ|wᵢxᵢ|, γₙ = nu/(1−nu). That
/// is the worst case and holds for each output. Roundings are as often up as down, so the mean square over many
/// outputs stays below n·u² of the signal (one running sum gives n·u²/6).
fn fault(w: Rows<'_>, [rows, cols]: [usize; 2], x: &[f32], y: &[f32]) -> Option<String> {
    let expected = naive(w, [rows, cols], x);
    assert_eq!(y.len(), expected.len());
    let n = cols as f64;
    let mut row = vec![0.0; cols];
    for r in 0..rows {
        w.decode_row(r, &mut row);
        for (i, x) in x.chunks(cols).enumerate() {
            let size: f64 = row.iter().zip(x).map(|(w, x)| f64::from((w * x).abs())).sum();
            let off = (f64::from(y[i * rows + r]) - expected[i * rows + r]).abs();
            if off.is_nan() || off > 1.001 * n * U * size {
                return Some(format!("row {r} of input {i} is off by {off}, {} of its terms", off / size));
            }
        }
    }
    let error: f64 = y.iter().zip(&expected).map(|(y, e)| (f64::from(*y) - e).powi(2)).sum();
    let nmse = error / expected.iter().map(|e| e * e).sum::<f64>();
    (y.len() >= 100 && nmse > n * U * U).then(|| format!("NMSE {nmse:e}"))
}

/// An even and an odd number of bits; the others differ in nothing a product sees.
const GROUPED: [Scheme; 2] = [Scheme::Q4, Scheme::Q3];

/// The same weights, rounded to bf16, in each of the forms.
struct Forms {
    dense: Vec<f32>,
    f32: EncodedTensor,
    q8: EncodedTensor,
    grouped: Vec<EncodedTensor>,
}

impl Forms {
    fn new(shape: [usize; 2], random: &mut Random) -> Self {
        let dense: Vec<f32> =
            random.normals(shape[0] * shape[1], 0.05).into_iter().map(|w| FloatDtype::Bf16.round(w)).collect();
        let encode =
            |scheme| EncodedTensor::encode(&dense, shape, FloatDtype::Bf16, scheme, &EncodeOptions::default()).unwrap();
        Self { f32: encode(Scheme::F32), q8: encode(Scheme::Q8), grouped: GROUPED.map(encode).into(), dense }
    }

    fn all(&self) -> Vec<(&str, Rows<'_>)> {
        let mut all = vec![("dense", Rows::Dense(&self.dense))];
        all.extend([&self.f32, &self.q8].into_iter().chain(&self.grouped).map(|e| (e.scheme().name(), e.rows())));
        all
    }
}

fn for_every_shape(mut check: impl FnMut(&Forms, [usize; 2], &[f32], &str)) {
    let mut random = Random(3);
    for cols in COLS {
        for rows in ROWS {
            let forms = Forms::new([rows, cols], &mut random);
            for m in BATCH {
                let x = random.normals(m * cols, 1.0);
                check(&forms, [rows, cols], &x, &format!("{m}×{cols} by {rows}×{cols}"));
            }
        }
    }
}

#[test]
fn every_form_gives_the_product_within_the_bound_of_its_sums() {
    for_every_shape(|forms, shape, x, what| {
        for (form, w) in forms.all() {
            assert_eq!(fault(w, shape, x, &run(w, shape, x)), None, "{what}, {form}");
        }
    });
}

#[test]
fn the_bound_sees_one_wrong_weight() {
    for (rows, cols) in [(7, 3), (24, 33), (70, 300)] {
        let mut random = Random(4);
        let forms = Forms::new([rows, cols], &mut random);
        let x = random.normals(17 * cols, 1.0);
        let mut wrong = forms.dense.clone();
        // By about the last bit of a bf16.
        wrong[rows * cols / 2] *= 1.0 + 1.0 / 256.0;
        let y = run(Rows::Dense(&wrong), [rows, cols], &x);
        let w = Rows::Dense(&forms.dense);
        assert!(fault(w, [rows, cols], &x, &y).is_some(), "{rows}×{cols}");
    }
}

#[test]
fn forms_that_decode_alike_give_the_same_bits() {
    for_every_shape(|forms, shape, x, what| {
        let dense = Rows::Dense(&forms.dense);
        assert_eq!(bits(&run(dense, shape, x)), bits(&run(forms.f32.rows(), shape, x)), "{what}");
        let mut decoded = vec![0.0; shape[0] * shape[1]];
        for form in [&forms.q8].into_iter().chain(&forms.grouped) {
            form.decode_into(&mut decoded);
            let (plain, encoded) = (run(Rows::Dense(&decoded), shape, x), run(form.rows(), shape, x));
            assert_eq!(bits(&plain), bits(&encoded), "{what}, {}", form.scheme());
        }
    });
}

#[test]
fn bytes_between_rows_of_codes_are_not_read() {
    let (shape, stride) = ([31, 33], 48);
    let mut random = Random(5);
    let forms = Forms::new(shape, &mut random);
    let x = random.normals(3 * shape[1], 1.0);
    let Rows::Q8 { codes, scale, curvature, .. } = forms.q8.rows() else { panic!("not q8") };
    let expected = run(forms.q8.rows(), shape, &x);
    for filler in [0, 0x7f, 0xff] {
        let mut padded = vec![filler; shape[0] * stride];
        for (to, from) in padded.chunks_mut(stride).zip(codes.chunks(shape[1])) {
            to[..shape[1]].copy_from_slice(from);
        }
        let w = Rows::Q8 { codes: &padded, stride, scale, curvature };
        assert_eq!(bits(&run(w, shape, &x)), bits(&expected), "filled with {filler}");
        // Read with the wrong stride, they would be.
        let w = Rows::Q8 { codes: &padded, stride: shape[1], scale, curvature };
        assert_ne!(bits(&run(w, shape, &x)), bits(&expected), "filled with {filler}");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let mut random = Random(6);
    for shape in [[1, 40], [3, 40], [5, 600], [70, 600], [130, 1500], [301, 64], [1000, 7]] {
        let forms = Forms::new(shape, &mut random);
        for m in [1, 2, 17, 130] {
            let x = random.normals(m * shape[1], 1.0);
            for (form, w) in forms.all() {
                let on = |threads| {
                    let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    bits(&pool.install(|| run(w, shape, &x)))
                };
                let alone = on(1);
                for threads in [2, 3, 5, 16] {
                    assert!(on(threads) == alone, "{m} inputs, {shape:?}, {form}: {threads} threads differ from one");
                }
            }
        }
    }
}

#[test]
#[should_panic = "does not fit"]
fn an_output_of_another_length_is_refused() {
    linear(Rows::Dense(&[1.0; 6]), [2, 3], &[1.0; 3], &mut [0.0; 3]);
}

#[test]
fn a_matrix_without_columns_gives_zeros() {
    let mut y = [f32::NAN; 6];
    linear(Rows::Dense(&[]), [3, 0], &[], &mut y);
    assert_eq!(y, [0.0; 6]);
}
