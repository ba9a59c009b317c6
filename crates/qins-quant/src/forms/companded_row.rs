//! One byte per weight, with the sign in bit 7 and the companded magnitude in bits 0–6, and a scale and a curvature per row.

use half::f16;
use multiversion::multiversion;
use qins_codec::{Alpha, Code, Curvature};
use rayon::prelude::*;

use super::{
    Element, EncodeOptions, Extent, MatrixFormat, PartSpec, StoredForm, Weights, above_range, check_parameters, stride,
    words_of,
};
use crate::{
    EncodeError, FloatDtype,
    fit::{f16_at_least, fit_curvature},
    range::ScaleRange,
};

/// Curvatures to try: the one in closed form, and this many on either side of it, with this relative spacing.
///
/// The closed form uses the distribution of the weights, not where each falls between two levels. Near it the
/// expected error hardly changes, but each curvature places the levels differently, and the actual error varies by
/// chance, the more the fewer weights a row has: the best of nine gains 0.46 dB on rows of 192 and 512 weights, and
/// 0.13 dB on rows of 3072. Other scales gain nothing: larger ones lose as much again, and smaller ones saturate large
/// weights.
const TRIES: i32 = 4;
const APART: f32 = 0.03;

/// The number of separate running sums, so that the loop vectorises.
const LANES: usize = 16;

pub(super) struct CompandedRow;

impl StoredForm for CompandedRow {
    fn parts(&self, _: FloatDtype, cols: usize) -> Vec<PartSpec> {
        vec![
            PartSpec::new("packed", Element::U8, Extent::Rows(cols)),
            PartSpec::new("scale", Element::F16, Extent::Row),
            PartSpec::new("curvature", Element::F16, Extent::Row),
        ]
    }

    fn encode(&self, _: &MatrixFormat, weights: &Weights<'_>) -> Result<Vec<Vec<u32>>, EncodeError> {
        let [rows, cols] = weights.shape;
        let mut importance = weights.importance.map_or_else(|| vec![1.0; cols], <[f32]>::to_vec);
        importance.resize(cols.next_multiple_of(LANES), 0.0);
        let mut codes = vec![0_u32; rows * stride(cols) / size_of::<u32>()];
        let parameters = bytemuck::cast_slice_mut::<u32, u8>(&mut codes)
            .par_chunks_mut(stride(cols).max(1))
            .zip(weights.values.par_chunks(cols.max(1)))
            .enumerate()
            .map(|(row, (out, x))| encode_row(row, x, weights.options.alpha, &importance, &mut out[..cols]))
            .collect::<Result<Vec<_>, _>>()?;
        let (mut scale, mut curvature): (Vec<f32>, Vec<f32>) = parameters.into_iter().unzip();
        // A matrix without columns still has a scale and a curvature per row.
        scale.resize(rows, 0.0);
        curvature.resize(rows, 0.0);
        Ok(vec![codes, words_of(scale), words_of(curvature)])
    }

    fn check(&self, _: &MatrixFormat, parts: &[&[u32]]) -> Result<(), EncodeError> {
        check_parameters("scale", parts[1], 1, f32::MAX)?;
        check_parameters("curvature", parts[2], 1, Curvature::MAX.get())
    }

    fn scale_range(&self, cols: usize, options: &EncodeOptions) -> Option<ScaleRange> {
        // Rounding up to 2⁻²⁰ and more, in steps of 2⁻²⁴, costs half a dB at most. A fixed α has a scale of its own.
        options.alpha.is_none().then_some(ScaleRange { span: cols, least: 1.0 / f32::from(1_u16 << 10) / 1024.0 })
    }

    fn takes_alpha(&self) -> bool {
        true
    }

    fn uses_importance(&self) -> bool {
        true
    }
}

/// Encodes one row; returns its scale and curvature.
fn encode_row(
    row: usize,
    x: &[f32],
    alpha: Option<Alpha>,
    importance: &[f32],
    out: &mut [u8],
) -> Result<(f32, f32), EncodeError> {
    let (scale, k) = match alpha {
        None => {
            let largest = x.iter().fold(0.0_f32, |max, w| max.max(w.abs()));
            let scale = f16_at_least(largest);
            if !scale.is_finite() {
                return Err(above_range(row, 0, x, f16::MAX.to_f32()));
            }
            let k = if scale > 0.0 { fit(x.iter().map(|w| w.abs() / scale).collect(), importance) } else { 0.0 };
            (scale, k)
        }
        // With s → ∞ and k = α·s, v = (1+k)t/(1+kt) tends to u = α|x|/(1+α|x|): the report's code over the whole of
        // [0, 1]. 2¹⁵ is the largest power of two an f16 holds; it is there to 2⁻¹⁵/α.
        Some(alpha) => {
            let scale = 32768.0 / alpha.get().max(1.0);
            (scale, alpha.get() * scale)
        }
    };
    let (scale, k) = (f16::from_f32(scale).to_f32(), f16::from_f32(k).to_f32());
    let invalid = EncodeError::LargeAlpha(alpha.map_or(k, Alpha::get));
    let curvature = Curvature::new(k).ok().filter(|_| scale > 0.0 || alpha.is_none()).ok_or(invalid.clone())?;
    qins_codec::slice::encode(x, scale, curvature, out).map_err(|_| invalid)?;
    Ok((scale, k))
}

/// The curvature with the least error for the magnitudes `t` ≤ 1 of a row.
fn fit(mut t: Vec<f32>, importance: &[f32]) -> f32 {
    let fitted = fit_curvature(t.iter().copied());
    t.resize(importance.len(), 0.0);
    let candidates = (-TRIES..=TRIES).map(|i| f16::from_f32(fitted * (1.0 + APART * i as f32)).to_f32());
    let errors = candidates.filter_map(|k| Some((k, squared_error(&t, importance, Curvature::new(k).ok()?))));
    errors.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(fitted, |(k, _)| k)
}

/// Σ w·(t − t̂)², with t̂ decoded from the codes under this curvature; the same on all instruction sets.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn squared_error(t: &[f32], w: &[f32], k: Curvature) -> f32 {
    const STEPS: f32 = Code::MAX_MAGNITUDE as f32;
    // Adding 2²³, whose ulp is 1, rounds to an integer.
    const ROUND: f32 = 8_388_608.0;
    let mut sums = [0.0; LANES];
    for (t, w) in t.as_chunks::<LANES>().0.iter().zip(w.as_chunks::<LANES>().0) {
        for ((sum, t), w) in sums.iter_mut().zip(t).zip(w) {
            let e = t - k.level((STEPS * k.compand(*t) + ROUND) - ROUND, STEPS);
            *sum += w * e * e;
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums of uniform numbers, approximately Gaussian.
    fn row(seed: u32, n: u32) -> Vec<f32> {
        let uniform =
            |i: u32| (i.wrapping_mul(0x9e37_79b1) ^ (i >> 7)).wrapping_mul(0x85eb_ca6b) as f32 / u32::MAX as f32;
        (0..n).map(|i| (0..6).map(|j| uniform(6 * (seed * n + i) + j) - 0.5).sum()).collect()
    }

    /// The error of the codes under `k`, computed with the codec.
    fn error(x: &[f32], importance: &[f32], scale: f32, k: f32) -> f64 {
        let (mut codes, mut decoded) = (vec![0; x.len()], vec![0.0; x.len()]);
        let curvature = Curvature::new(k).unwrap();
        qins_codec::slice::encode(x, scale, curvature, &mut codes).unwrap();
        qins_codec::slice::decode(&codes, scale, curvature, &mut decoded).unwrap();
        let errors = x.iter().zip(&decoded).map(|(x, d)| f64::from((x - d) / scale).powi(2));
        errors.zip(importance).map(|(e, w)| e * f64::from(*w)).sum()
    }

    #[test]
    fn searched_curvature_beats_closed_form_and_respects_importance() {
        const COLS: usize = 200;
        let even = vec![1.0; COLS.next_multiple_of(LANES)];
        let uneven: Vec<f32> = (0..even.len()).map(|i| if i % 5 == 0 { 1.0 } else { 0.01 }).collect();
        let (mut closed, mut tried, mut unweighed, mut weighed) = (0.0, 0.0, 0.0, 0.0);
        for seed in 0..100 {
            let x = row(seed, COLS as u32);
            let scale = x.iter().fold(0.0_f32, |max, w| max.max(w.abs()));
            let t: Vec<f32> = x.iter().map(|w| w.abs() / scale).collect();
            let (fitted, best) = (fit_curvature(t.iter().copied()), fit(t.clone(), &even));
            closed += error(&x, &even, scale, fitted);
            tried += error(&x, &even, scale, best);
            unweighed += error(&x, &uneven, scale, best);
            weighed += error(&x, &uneven, scale, fit(t.clone(), &uneven));
            // The error that the search minimises is that of the codes.
            let padded: Vec<f32> = t.iter().copied().chain([0.0; LANES]).take(even.len()).collect();
            let compared = f64::from(squared_error(&padded, &even, Curvature::new(best).unwrap()));
            let found = error(&x, &even, scale, best);
            assert!((compared - found).abs() <= 1e-4 * found, "{compared}, not {found}");
        }
        let ahead = |of: f64, than: f64| 10.0 * (than / of).log10();
        assert!(ahead(tried, closed) > 0.4, "{}", ahead(tried, closed));
        assert!(ahead(weighed, unweighed) > 0.3, "{}", ahead(weighed, unweighed));
    }
}
