//! The error of decoded weights.

use std::ops::AddAssign;

/// Sums over pairs of a weight and its decoded value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fidelity {
    /// Number of pairs.
    pub weights: u64,
    signal: f64,
    decoded: f64,
    error: f64,
    product: f64,
    /// Number of pairs whose bits differ.
    pub changed: u64,
}

impl Fidelity {
    /// Compares two slices of equal length.
    pub fn of(weights: &[f32], decoded: &[f32]) -> Self {
        let mut sums = Self { weights: weights.len() as u64, ..Self::default() };
        for (w, d) in weights.iter().zip(decoded) {
            let is_changed = w.to_bits() != d.to_bits();
            sums.changed += u64::from(is_changed);
            let (w, d) = (f64::from(*w), f64::from(*d));
            sums.signal += w * w;
            sums.decoded += d * d;
            // A NaN or infinity that has kept its bits is no error.
            sums.error += if is_changed { (w - d) * (w - d) } else { 0.0 };
            sums.product += w * d;
        }
        sums
    }

    /// Normalised mean squared error: the error's energy over the weights' energy; 0 if there is no error.
    pub fn nmse(&self) -> f64 {
        if self.error == 0.0 { 0.0 } else { self.error / self.signal }
    }

    /// Signal-to-quantisation-noise ratio in dB; `None` if there is no error, −∞ if there is one but no signal, or a weight is
    /// not finite.
    pub fn sqnr_db(&self) -> Option<f64> {
        let db = -10.0 * self.nmse().log10();
        // Without a negative zero.
        (self.error != 0.0).then(|| if db.is_nan() { f64::NEG_INFINITY } else { db + 0.0 })
    }

    /// Cosine similarity; `None` if either is zero or not finite.
    pub fn cosine(&self) -> Option<f64> {
        Some(self.product / (self.signal * self.decoded).sqrt()).filter(|cosine| cosine.is_finite())
    }
}

impl AddAssign for Fidelity {
    fn add_assign(&mut self, other: Self) {
        self.weights += other.weights;
        self.signal += other.signal;
        self.decoded += other.decoded;
        self.error += other.error;
        self.product += other.product;
        self.changed += other.changed;
    }
}

#[cfg(test)]
#[test]
fn fidelity_matches_computation_by_hand() {
    let mut sums = Fidelity::of(&[3.0, -0.0], &[3.0, 0.0]);
    assert_eq!((sums.nmse(), sums.sqnr_db(), sums.cosine(), sums.changed), (0.0, None, Some(1.0), 1));
    sums += Fidelity::of(&[4.0], &[3.0]);
    assert_eq!((sums.weights, sums.changed), (3, 2));
    assert_eq!(sums.nmse(), 1.0 / 25.0);
    assert!((sums.sqnr_db().unwrap() - 13.979_400_086_720_377).abs() < 1e-12);
    assert!((sums.cosine().unwrap() - 21.0 / (25.0_f64 * 18.0).sqrt()).abs() < 1e-15);
    assert_eq!(Fidelity::of(&[f32::NAN], &[0.0]).sqnr_db(), Some(f64::NEG_INFINITY));
    assert_eq!(Fidelity::of(&[f32::NAN, f32::INFINITY], &[f32::NAN, f32::INFINITY]).sqnr_db(), None);
    assert_eq!(Fidelity::of(&[0.0], &[1.0]).sqnr_db(), Some(f64::NEG_INFINITY));
    assert_eq!(Fidelity::of(&[1e-20], &[0.0]).sqnr_db(), Some(0.0));
    assert_eq!(Fidelity::of(&[0.0], &[0.0]).cosine(), None);
}
