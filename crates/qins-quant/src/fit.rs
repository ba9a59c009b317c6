//! What the fits of all schemes share, and the curvature in closed form.

use half::f16;

/// The curvature k minimising the expected squared error of a companded code of many levels, for the magnitudes
/// `t ∈ [0, 1]` (each |x| divided by the scale).
///
/// The step of the code in t is proportional to (1+kt)²/(1+k), so the error is E(1+kt)⁴/(1+k)². Setting the derivative
/// to zero, with mᵢ = E tⁱ, gives
///
/// ```text
/// 2m₄k⁴ + 4(m₃+m₄)k³ + 12m₃k² + (12m₂−4m₁)k + (4m₁−2) = 0
/// ```
///
/// which has exactly one positive root iff m₁ < ½; otherwise (and for an empty or all-zero row) the best k is 0.
pub fn fit_curvature(magnitudes: impl IntoIterator<Item = f32>) -> f32 {
    let (mut m, mut n) = ([0.0_f64; 4], 0_u64);
    for t in magnitudes {
        let t = f64::from(t);
        let square = t * t;
        m[0] += t;
        m[1] += square;
        m[2] += square * t;
        m[3] += square * square;
        n += 1;
    }
    if n == 0 || m[0] == 0.0 {
        return 0.0;
    }
    root(m.map(|sum| sum / n as f64)) as f32
}

fn root([m1, m2, m3, m4]: [f64; 4]) -> f64 {
    let p = |k: f64| {
        (((2.0 * m4 * k + 4.0 * (m3 + m4)) * k + 12.0 * m3) * k + (12.0 * m2 - 4.0 * m1)) * k + (4.0 * m1 - 2.0)
    };
    if m1 >= 0.5 {
        return 0.0;
    }
    let mut high = 1.0;
    // (1+k)⁴ ≈ 1/m₁ bounds the root even for a single large weight among 2³², so this terminates.
    while p(high) < 0.0 && high < 1e4 {
        high *= 2.0;
    }
    let mut low = 0.0;
    // Bisection to well below the resolution of the f16 that stores k.
    for _ in 0..40 {
        let mid = 0.5 * (low + high);
        if p(mid) < 0.0 { low = mid } else { high = mid }
    }
    0.5 * (low + high)
}

/// Below this share of the mean importance a column counts as not reached by the calibration, which then says nothing about
/// its weights; with an importance of 0 they would be stored arbitrarily.
const UNREACHED: f64 = 1e-6;

/// The importance of such columns as a share of the mean: enough that the columns beside them do not make them saturate.
const IMPORTANCE_OF_UNREACHED: f64 = 0.25;

/// The importance of columns scaled to a maximum of 1, with that of unreached ones raised; 1 if all are 0. Only its ratios
/// matter, and so scaled, sums of squares neither overflow nor vanish.
pub(crate) fn relative(importance: &[f32]) -> Vec<f32> {
    let wide = || importance.iter().map(|w| f64::from(*w));
    let (most, sum) = (wide().fold(0.0, f64::max), wide().sum::<f64>());
    if most == 0.0 {
        return vec![1.0; importance.len()];
    }
    let mean = sum / importance.len() as f64;
    let raised = |w: f64| if w < UNREACHED * mean { IMPORTANCE_OF_UNREACHED * mean } else { w };
    wide().map(|w| (raised(w) / most) as f32).collect()
}

/// The smallest `f16` not below `x ≥ 0`, so that the largest weight under that scale has |t| ≤ 1.
pub(crate) fn f16_at_least(x: f32) -> f32 {
    let nearest = f16::from_f32(x);
    if nearest.to_f32() < x { f16::from_bits(nearest.to_bits() + 1).to_f32() } else { nearest.to_f32() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error the fit minimises, evaluated directly.
    fn expected_error(t: &[f32], k: f64) -> f64 {
        t.iter().map(|&t| (1.0 + k * f64::from(t)).powi(4)).sum::<f64>() / (1.0 + k).powi(2)
    }

    #[test]
    fn fitted_curvature_minimizes_expected_error() {
        for power in [1, 2, 3, 6] {
            let t: Vec<f32> = (0..1000).map(|i| (i as f32 / 999.0).powi(power)).collect();
            let k = f64::from(fit_curvature(t.iter().copied()));
            let best = expected_error(&t, k);
            for other in [k * 0.9 - 0.01, k * 1.1 + 0.01] {
                assert!(best <= expected_error(&t, other.max(0.0)), "power {power}: {k} is worse than {other}");
            }
            // A peaked distribution needs curvature; one as heavy above the middle as below needs none.
            assert_eq!(k > 1e-6, power > 1, "power {power}: k = {k}");
        }
    }

    #[test]
    fn importance_of_unreached_columns_is_raised() {
        assert_eq!(relative(&[2.0, 4.0, 1.0, 1e-5]), [0.5, 1.0, 0.25, 0.25e-5]);
        assert_eq!(relative(&[0.0; 3]), [1.0; 3]);
        assert_eq!(relative(&[f32::MAX, 0.0, f32::MAX, f32::MAX]), [1.0, 0.75 / 4.0, 1.0, 1.0]);
        assert_eq!(relative(&[f32::from_bits(1), 0.0]), [1.0, 0.5 / 4.0]);
        assert!(relative(&[]).is_empty());
    }

    #[test]
    fn degenerate_rows_have_zero_or_bounded_curvature() {
        assert_eq!(fit_curvature([]), 0.0);
        assert_eq!(fit_curvature([0.0; 8]), 0.0);
        assert_eq!(fit_curvature([1.0; 8]), 0.0);
        let lonely = fit_curvature((0..1_000_000).map(|i| if i == 0 { 1.0 } else { 0.0 }));
        assert!((20.0..60.0).contains(&lonely), "{lonely}");
    }
}
