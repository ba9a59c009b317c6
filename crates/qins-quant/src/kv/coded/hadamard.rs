//! The Hadamard transform over a head.

/// Transforms `x` in place, orthonormally, in runs as long as the largest power of two that divides its length; its own inverse.
pub(in crate::kv) fn hadamard(x: &mut [f32]) {
    let run = 1 << x.len().trailing_zeros();
    let norm = 1.0 / (run as f32).sqrt();
    for run in x.chunks_exact_mut(run) {
        let mut half = 1;
        while half < run.len() {
            for pair in run.chunks_exact_mut(2 * half) {
                let (low, high) = pair.split_at_mut(half);
                for (a, b) in low.iter_mut().zip(high) {
                    (*a, *b) = (*a + *b, *a - *b);
                }
            }
            half *= 2;
        }
        run.iter_mut().for_each(|x| *x *= norm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hadamard_keeps_norms_and_is_its_own_inverse() {
        for n in [1, 2, 24, 64, 80, 96, 256] {
            let x: Vec<f32> = (0..n).map(|i| ((i * 37 % 19) as f32) - 7.0).collect();
            let mut y = x.clone();
            hadamard(&mut y);
            let norm = |x: &[f32]| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
            assert!((norm(&x) - norm(&y)).abs() <= 1e-5 * norm(&x), "{n}");
            assert!(n == 1 || x != y, "{n}");
            hadamard(&mut y);
            assert!(x.iter().zip(&y).all(|(x, y)| (x - y).abs() < 1e-4), "{n}");
        }
    }
}
