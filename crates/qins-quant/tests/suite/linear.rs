//! Products with encoded matrices, against their definition.

use qins_quant::{
    Alpha, EncodeOptions, EncodedTensor, FloatDtype, Recipe, Scheme,
    kernel::{INTEGER_NMSE, Rows, Simd, linear, linear_on, naive},
};
use rayon::ThreadPoolBuilder;

use crate::common::{Random, bits};

/// The unit roundoff of `f32`.
const U: f64 = f32::EPSILON as f64 / 2.0;

const COLS: [usize; 11] = [1, 2, 3, 7, 16, 33, 64, 129, 300, 513, 1290];
const ROWS: [usize; 6] = [0, 1, 2, 5, 31, 70];
const BATCH: [usize; 7] = [0, 1, 2, 3, 4, 7, 34];

/// The instruction sets of this machine.
fn all_simd() -> impl Iterator<Item = Simd> {
    Simd::ALL.into_iter().filter(|simd| simd.is_available())
}

fn run(w: Rows<'_>, [rows, cols]: [usize; 2], x: &[f32]) -> Vec<f32> {
    let mut y = vec![f32::NAN; x.len() / cols * rows];
    linear(w, [rows, cols], x, &mut y);
    y
}

fn run_on(simd: Simd, w: Rows<'_>, [rows, cols]: [usize; 2], x: &[f32]) -> Vec<f32> {
    let mut y = vec![f32::NAN; x.len() / cols * rows];
    linear_on(simd, w, [rows, cols], x, &mut y);
    y
}

/// The rounding errors in a block of 256 columns of an integer product.
struct Block {
    /// Of an activation: half of its step.
    x: f64,
    /// Of a weight: one unit.
    w: f64,
}

fn blocks(w: Rows<'_>, row: usize, x: &[f32]) -> Vec<Block> {
    let step = |x: &[f32]| {
        let (largest, sum) =
            x.iter().fold((0.0_f64, 0.0), |(l, s), x| (l.max(f64::from(x.abs())), s + f64::from(x.abs())));
        (largest / 32_639.0).max(sum / 130_000.0)
    };
    let unit = |b: usize| match w {
        Rows::Q8 { codes, stride, scale, curvature } => {
            // On a steep curve the largest level that occurs, else the largest that can occur.
            let codes = codes[row * stride..][..x.len()].iter();
            let top = if curvature[row] > 16.0 { codes.map(|c| c & 0x7f).max().unwrap() } else { 127 };
            let (q, k) = (f64::from(top), f64::from(curvature[row]));
            f64::from(scale[row]) * q / (127.0 + k * (127.0 - q)) / 16_383.0
        }
        // Levels that are bytes are exact.
        Rows::Grouped(w) if w.layout.width().has_byte_levels() => 0.0,
        Rows::Grouped(w) => f64::from(w.scale[row * w.layout.scales(x.len()) + b]) * 128.0 / 16_383.0,
        _ => 0.0,
    };
    let integer = matches!(w, Rows::Q8 { .. } | Rows::Grouped(_));
    x.chunks(256).enumerate().map(|(b, x)| Block { x: if integer { step(x) / 2.0 } else { 0.0 }, w: unit(b) }).collect()
}

/// Describes how `y` differs from the product by more than its error bound, if it does.
///
/// A sum of n products in any order, with or without fused operations, satisfies |ŷ − y| ≤ γₙ·Σ|wᵢxᵢ| with γₙ = nu/(1−nu).
/// Integer products add, per block, half a step per weight and a unit per activation. This worst case bounds each output.
/// Roundings up and down are equally frequent, so the mean square over many outputs is far smaller: below n·u² of the signal
/// for floats (one running sum gives n·u²/6), and below `INTEGER_NMSE` for integers.
fn error_beyond_bound(w: Rows<'_>, [rows, cols]: [usize; 2], x: &[f32], y: &[f32]) -> Option<String> {
    let expected = naive(w, [rows, cols], x);
    assert_eq!(y.len(), expected.len());
    let n = cols as f64;
    let mut row = vec![0.0; cols];
    let mut integer = false;
    for r in 0..rows {
        w.decode_row(r, &mut row);
        for (i, x) in x.chunks(cols).enumerate() {
            let size: f64 = row.iter().zip(x).map(|(w, x)| f64::from((w * x).abs())).sum();
            let mut bound = 1.001 * n * U * size;
            for (block, (w, x)) in blocks(w, r, x).iter().zip(row.chunks(256).zip(x.chunks(256))) {
                let sum = |values: &[f32]| values.iter().map(|v| f64::from(v.abs())).sum::<f64>();
                let whole = block.x * sum(w) + block.w * (sum(x) + x.len() as f64 * block.x);
                // Scales and steps are rounded as well.
                bound += 1.001 * whole + 4.0 * U * size;
                integer |= block.x > 0.0;
            }
            let off = (f64::from(y[i * rows + r]) - expected[i * rows + r]).abs();
            if off.is_nan() || off > bound {
                return Some(format!("row {r} of input {i} is off by {off}, where {bound} is allowed"));
            }
        }
    }
    let error: f64 = y.iter().zip(&expected).map(|(y, e)| (f64::from(*y) - e).powi(2)).sum();
    let nmse = error / expected.iter().map(|e| e * e).sum::<f64>();
    let limit = if integer { INTEGER_NMSE } else { n * U * U };
    (y.len() >= 100 && nmse > limit).then(|| format!("NMSE {nmse:e}"))
}

/// The same weights, rounded to bf16, in every form.
struct Forms {
    dense: Vec<f32>,
    /// With one word of padding per row.
    bf16: Vec<u16>,
    cols: usize,
    encoded: Vec<EncodedTensor>,
}

const ENCODED: [Scheme; 7] =
    [Scheme::CompandedF32, Scheme::Q8, Scheme::Q8g, Scheme::Q6, Scheme::Q5, Scheme::Q4, Scheme::Q3];

impl Forms {
    fn new(shape: [usize; 2], random: &mut Random) -> Self {
        let dense: Vec<f32> =
            random.normals(shape[0] * shape[1], 0.05).into_iter().map(|w| FloatDtype::Bf16.round(w)).collect();
        let word = |w: &f32| (w.to_bits() >> 16) as u16;
        let encode =
            |scheme: Scheme| EncodedTensor::encode_as(&dense, shape, FloatDtype::Bf16, &scheme.into()).unwrap();
        Self {
            bf16: dense.chunks(shape[1]).flat_map(|row| row.iter().map(word).chain([0x7fc0])).collect(),
            cols: shape[1],
            encoded: ENCODED.map(encode).into(),
            dense,
        }
    }

    fn bf16(&self) -> Rows<'_> {
        Rows::Half { words: &self.bf16, stride: self.cols + 1, bf16: true }
    }

    fn encoded(&self, scheme: Scheme) -> Rows<'_> {
        self.encoded.iter().find(|e| e.scheme() == scheme).unwrap().rows()
    }

    fn all(&self) -> Vec<(&str, Rows<'_>)> {
        let mut all = vec![("dense", Rows::Dense(&self.dense)), ("bf16", self.bf16())];
        all.extend(self.encoded.iter().map(|e| (e.scheme().name(), e.rows())));
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

/// Whether products are those of integers.
fn integer(w: Rows<'_>) -> bool {
    matches!(w, Rows::Q8 { .. } | Rows::Grouped(_))
}

/// Checks the product on every instruction set, against the bound and against the bits of portable code, whose product it returns.
/// Products of floats with several rows are fused on x86-64, in the same order on all its instruction sets.
fn on_every_isa(w: Rows<'_>, [rows, cols]: [usize; 2], x: &[f32], what: &str) -> Vec<f32> {
    let portable = run_on(Simd::Portable, w, [rows, cols], x);
    let fused = |simd: Simd| !integer(w) && x.len() > cols && simd.fuses_floats();
    let mut first_fused = None;
    for simd in all_simd() {
        let y = run_on(simd, w, [rows, cols], x);
        assert_eq!(error_beyond_bound(w, [rows, cols], x, &y), None, "{what}: {simd}");
        let expected = if fused(simd) { first_fused.get_or_insert_with(|| y.clone()) } else { &portable };
        assert_eq!(bits(&y), bits(expected), "{what}: {simd}");
    }
    portable
}

#[test]
fn linear_on_every_isa_is_within_error_bound_and_bit_identical_to_portable() {
    for_every_shape(|forms, shape, x, what| {
        for (form, w) in forms.all() {
            on_every_isa(w, shape, x, &format!("{what}, {form}"));
        }
    });
}

/// Lengths around the ends of groups, of blocks and of what kernels take at once, and those of small models.
const BORDERS: [usize; 16] = [1, 31, 32, 33, 127, 128, 129, 255, 256, 257, 640, 896, 1023, 1024, 1025, 2048];

#[test]
fn linear_of_rows_of_lengths_around_borders_is_bit_identical_to_portable_and_to_one_row_at_a_time() {
    let (rows, mut random) = (35, Random(10));
    for cols in BORDERS {
        let forms = Forms::new([rows, cols], &mut random);
        // Few are multiplied one by one; beyond 16 and 32, another tile begins.
        for m in [1, 2, 3, 4, 5, 16, 17, 33] {
            let x = random.normals(m * cols, 1.0);
            for (form, w) in forms.all() {
                let what = format!("{m}×{cols}, {form}");
                let portable = on_every_isa(w, [rows, cols], &x, &what);
                if integer(w) {
                    let alone: Vec<f32> = x.chunks(cols).flat_map(|x| run(w, [rows, cols], x)).collect();
                    assert_eq!(bits(&alone), bits(&portable), "{what}");
                }
            }
        }
    }
}

#[test]
fn linear_of_rows_longer_than_what_kernels_prepare_at_a_time_is_bit_identical_to_portable() {
    // AVX-512 widens the scales of 8192 columns at a time.
    for (m, cols) in [(1, 8193), (2, 9216), (2, 9249)] {
        let (forms, x) = (Forms::new([3, cols], &mut Random(11)), Random(12).normals(m * cols, 1.0));
        forms.all().into_iter().for_each(|(form, w)| drop(on_every_isa(w, [3, cols], &x, form)));
    }
}

#[test]
fn error_bound_detects_one_wrong_weight() {
    for (rows, cols) in [(7, 3), (24, 33), (70, 300)] {
        let mut random = Random(4);
        let forms = Forms::new([rows, cols], &mut random);
        let x = random.normals(17 * cols, 1.0);
        let mut wrong = forms.dense.clone();
        // Off by about the last bit of a bf16.
        wrong[rows * cols / 2] *= 1.0 + 1.0 / 256.0;
        let y = run(Rows::Dense(&wrong), [rows, cols], &x);
        let w = Rows::Dense(&forms.dense);
        assert!(error_beyond_bound(w, [rows, cols], &x, &y).is_some(), "{rows}×{cols}");
        // A code with its highest magnitude bit flipped.
        let Rows::Q8 { codes, stride, scale, curvature } = forms.encoded(Scheme::Q8) else { panic!("not q8") };
        let mut wrong = codes.to_vec();
        wrong[rows * cols / 2] ^= 0x40;
        let y = run(Rows::Q8 { codes: &wrong, stride, scale, curvature }, [rows, cols], &x);
        assert!(error_beyond_bound(forms.encoded(Scheme::Q8), [rows, cols], &x, &y).is_some(), "q8 {rows}×{cols}");
    }
}

#[test]
fn linear_of_float_forms_with_equal_weights_is_bit_identical() {
    for_every_shape(|forms, shape, x, what| {
        let dense = bits(&run(Rows::Dense(&forms.dense), shape, x));
        assert_eq!(dense, bits(&run(forms.bf16(), shape, x)), "{what}, bf16");
        assert_eq!(dense, bits(&run(forms.encoded(Scheme::CompandedF32), shape, x)), "{what}, f32");
    });
}

#[test]
fn linear_of_plain_rows_is_bit_identical_in_every_batch_of_several() {
    let ([rows, cols], mut random) = ([50, 300], Random(21));
    let forms = Forms::new([rows, cols], &mut random);
    let x = random.normals(35 * cols, 1.0);
    for simd in all_simd().filter(|simd| simd.fuses_floats()) {
        let together = run_on(simd, forms.bf16(), [rows, cols], &x);
        for few in [2, 5, 16, 17] {
            let some = run_on(simd, forms.bf16(), [rows, cols], &x[(35 - few) * cols..]);
            assert_eq!(bits(&some), bits(&together[(35 - few) * rows..]), "{few}: {simd}");
        }
    }
}

#[test]
fn linear_of_one_row_is_bit_identical_to_that_row_in_a_batch() {
    for_every_shape(|forms, shape @ [rows, cols], x, what| {
        for scheme in ENCODED.into_iter().filter(|s| *s != Scheme::CompandedF32) {
            let together = run(forms.encoded(scheme), shape, x);
            for (i, x) in x.chunks(cols).enumerate() {
                let alone = run(forms.encoded(scheme), shape, x);
                assert_eq!(bits(&alone), bits(&together[i * rows..][..rows]), "{what}, {scheme}: input {i}");
            }
        }
    });
}

#[test]
fn linear_of_extreme_activations_is_within_error_bound() {
    let (shape, mut random) = ([40, 530], Random(7));
    let forms = Forms::new(shape, &mut random);
    // Equal activations, for the largest sums; one outlier; very small and very large activations.
    let equal = vec![1.0; 530];
    let mut outlier = random.normals(530, 1.0);
    outlier[300] = 1e6;
    let scaled = |by: f32| random.clone().normals(530, 1.0).into_iter().map(|x| x * by).collect::<Vec<_>>();
    for (what, x) in [("equal", equal), ("outlier", outlier), ("small", scaled(1e-30)), ("large", scaled(1e30))] {
        for (form, w) in forms.all() {
            let off = error_beyond_bound(w, shape, &x, &run(w, shape, &x));
            assert!(
                off.is_none() || off.as_ref().is_some_and(|o| what == "outlier" && o.starts_with("NMSE")),
                "{what}, {form}: {off:?}"
            );
        }
    }
    for bad in [f32::NAN, f32::INFINITY] {
        let mut x = random.normals(530, 1.0);
        x[17] = bad;
        for (form, w) in forms.all() {
            assert!(run(w, shape, &x).iter().all(|y| !y.is_finite()), "{form} loses {bad}");
        }
    }
    for (form, w) in forms.all() {
        assert!(run(w, shape, &[0.0; 530]).iter().all(|y| *y == 0.0), "{form}");
    }
}

#[test]
fn linear_of_q8_with_fixed_alpha_is_within_error_bound() {
    let (shape, mut random) = ([40, 530], Random(9));
    let weights = random.normals(shape[0] * shape[1], 0.02);
    let x = random.normals(5 * shape[1], 1.0);
    for alpha in [0.05, 1.0, 30.0] {
        let options = EncodeOptions { alpha: Some(Alpha::new(alpha).unwrap()), ..EncodeOptions::default() };
        let encoded =
            EncodedTensor::encode_as(&weights, shape, FloatDtype::F32, &Recipe::new(Scheme::Q8, options)).unwrap();
        for m in [1, 5] {
            let x = &x[..m * shape[1]];
            assert_eq!(
                error_beyond_bound(encoded.rows(), shape, x, &run(encoded.rows(), shape, x)),
                None,
                "α = {alpha}"
            );
        }
    }
}

#[test]
fn linear_of_q8_with_any_curvature_is_bit_identical_to_portable() {
    // Many curvatures, and all codes, −0 included.
    let (rows, cols) = (64, 300);
    let codes: Vec<u8> = (0..rows * cols).map(|i| (i * 37 % 256) as u8).collect();
    let curvature: Vec<f32> =
        (0..rows).map(|r| if r % 3 == 0 { r as f32 * 1000.0 } else { (r % 23) as f32 / 7.0 }).collect();
    let scale: Vec<f32> = (0..rows).map(|r| r as f32 / 50.0).collect();
    let w = Rows::Q8 { codes: &codes, stride: cols, scale: &scale, curvature: &curvature };
    let x = Random(8).normals(5 * cols, 1.0);
    for m in [1, 5] {
        let portable = run_on(Simd::Portable, w, [rows, cols], &x[..m * cols]);
        assert_eq!(
            error_beyond_bound(w, [rows, cols], &x[..m * cols], &portable).filter(|o| !o.starts_with("NMSE")),
            None
        );
        for simd in all_simd() {
            assert_eq!(bits(&run_on(simd, w, [rows, cols], &x[..m * cols])), bits(&portable), "{simd}");
        }
    }
}

#[test]
fn linear_ignores_padding_between_rows() {
    let (shape, stride) = ([31, 33], 48);
    let mut random = Random(5);
    let forms = Forms::new(shape, &mut random);
    let x = random.normals(3 * shape[1], 1.0);
    let Rows::Q8 { codes, stride: filled, scale, curvature } = forms.encoded(Scheme::Q8) else { panic!("not q8") };
    let expected = run(forms.encoded(Scheme::Q8), shape, &x);
    for filler in [0, 0x7f, 0xff] {
        let mut padded = vec![filler; shape[0] * stride];
        for (to, from) in padded.chunks_mut(stride).zip(codes.chunks(filled)) {
            to[..shape[1]].copy_from_slice(&from[..shape[1]]);
        }
        let w = Rows::Q8 { codes: &padded, stride, scale, curvature };
        assert_eq!(bits(&run(w, shape, &x)), bits(&expected), "filled with {filler}");
        // Control: with the wrong stride the padding is read.
        let w = Rows::Q8 { codes: &padded, stride: shape[1], scale, curvature };
        assert_ne!(bits(&run(w, shape, &x)), bits(&expected), "filled with {filler}");
    }
}

#[test]
fn linear_is_bit_identical_for_any_number_of_threads() {
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
fn linear_panics_on_wrong_output_length() {
    linear(Rows::Dense(&[1.0; 6]), [2, 3], &[1.0; 3], &mut [0.0; 3]);
}

#[test]
fn linear_of_matrix_without_columns_is_zero() {
    let mut y = [f32::NAN; 6];
    linear(Rows::Dense(&[]), [3, 0], &[], &mut y);
    assert_eq!(y, [0.0; 6]);
}
