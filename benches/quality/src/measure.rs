//! Bits per weight and signal-to-quantisation-noise ratio (SQNR) of every scheme on every data set.

use qins_quant::{EncodeError, EncodeOptions, EncodedTensor, Rate, Recipe, Scheme};
use serde::Serialize;

use crate::{
    data::{DataSet, Matrix},
    reference::{self, Format},
};

/// One scheme on one data set.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Point {
    /// Bits per weight, all parameters included; of a storage-only scheme, those of [`coded`](Self::coded).
    pub(crate) bits: f64,
    /// Bits per weight in a file that is entropy-coded, of the library's schemes.
    pub(crate) coded: Option<f64>,
    /// SQNR: −10·log₁₀ of the matrices' NMSE, averaged with their sizes as weights; `None` when exact.
    pub(crate) decibels: Option<f64>,
    /// The same without a calibration, where `decibels` is with one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uncalibrated: Option<f64>,
}

/// The kind of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// One of the library's schemes.
    Ours,
    /// The library's scheme `rate`, at one of its rates.
    Rate,
    /// A format in common use.
    Other,
}

/// One scheme on every data set.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) points: Vec<Point>,
}

/// An encoder and decoder of matrices.
enum Codec<'a> {
    Ours(&'a Recipe),
    Reference(&'a Format),
}

impl Codec<'_> {
    /// Bytes as stored, bytes when entropy-coded, and the decoded weights.
    fn round_trip(&self, Matrix { shape, source, weights }: &Matrix) -> Result<Bytes, EncodeError> {
        let mut decoded = vec![0.0; weights.len()];
        let (stored, coded) = match self {
            Self::Ours(recipe) => {
                let encoded = EncodedTensor::encode_as(weights, *shape, *source, recipe)?;
                encoded.decode_into(&mut decoded);
                let coded = encoded.file_bytes(true)?;
                (if recipe.scheme.is_storage_only() { coded } else { encoded.bytes() }, Some(coded))
            }
            Self::Reference(format) => {
                let bytes = format.encode(weights, shape[1]);
                format.decode(&bytes, shape[1], &mut decoded);
                (bytes.len(), None)
            }
        };
        Ok(Bytes { stored, coded, decoded })
    }

    fn measure(&self, data: &DataSet) -> Result<Point, EncodeError> {
        let (mut stored, mut coded, mut error) = (0, Some(0), Mean::default());
        for matrix in &data.matrices {
            let bytes = self.round_trip(matrix)?;
            stored += bytes.stored;
            coded = coded.zip(bytes.coded).map(|(sum, more)| sum + more);
            error.add(&matrix.weights, &bytes.decoded);
        }
        let bits = |bytes: usize| (8 * bytes) as f64 / error.weights as f64;
        Ok(Point { bits: bits(stored), coded: coded.map(bits), decibels: error.decibels(), uncalibrated: None })
    }
}

struct Bytes {
    stored: usize,
    coded: Option<usize>,
    decoded: Vec<f32>,
}

/// Measures a recipe on a data set.
pub(crate) fn point(recipe: &Recipe, data: &DataSet) -> Result<Point, String> {
    Codec::Ours(recipe).measure(data).map_err(|error| format!("{} on {}: {error}", recipe.scheme, data.name))
}

/// The scheme `rate` at these bits per weight.
pub(crate) fn rate(bits: f64) -> Recipe {
    Recipe { options: EncodeOptions { rate: Rate::Bits(bits), ..EncodeOptions::default() }, ..Scheme::Rate.into() }
}

/// The bits at which `rate` is measured.
const RATES: [u8; 6] = [3, 4, 5, 6, 7, 8];

/// The library's schemes, by the names of their rows.
pub(crate) fn schemes() -> Vec<(String, Recipe)> {
    // `companded-f32` saves no bits.
    let fixed = Scheme::ALL.into_iter().filter(|scheme| !matches!(scheme, Scheme::CompandedF32 | Scheme::Rate));
    let rates = RATES.into_iter().map(|bits| (format!("rate {bits}"), rate(f64::from(bits))));
    fixed.map(|scheme| (scheme.to_string(), scheme.into())).chain(rates).collect()
}

/// Measures every scheme that quantises, and every reference; the cheapest come first.
pub(crate) fn measure(sets: &[DataSet]) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for (name, recipe) in schemes() {
        let points = sets.iter().map(|set| point(&recipe, set)).collect::<Result<_, _>>()?;
        rows.push(Row { name, kind: if recipe.scheme == Scheme::Rate { Kind::Rate } else { Kind::Ours }, points });
    }
    for format in &reference::ALL {
        let points = sets.iter().map(|set| Codec::Reference(format).measure(set)).collect::<Result<_, _>>();
        let points = points.map_err(|error| format!("{}: {error}", format.name))?;
        rows.push(Row { name: format.name.to_owned(), kind: Kind::Other, points });
    }
    let first = |row: &Row| row.points.first().map_or((0.0, 0.0), |p| (p.bits, p.decibels.unwrap_or(f64::INFINITY)));
    rows.sort_by(|a, b| first(a).partial_cmp(&first(b)).unwrap_or(std::cmp::Ordering::Equal));
    Ok(rows)
}

/// The matrices' mean NMSE, with their sizes as weights.
#[derive(Default)]
pub(crate) struct Mean {
    weights: usize,
    error: f64,
}

impl Mean {
    pub(crate) fn add(&mut self, weights: &[f32], decoded: &[f32]) {
        self.weights += weights.len();
        self.error += weights.len() as f64 * nmse(weights, decoded);
    }

    /// −10·log₁₀ of it; `None` when exact.
    pub(crate) fn decibels(&self) -> Option<f64> {
        (self.error > 0.0).then(|| -10.0 * (self.error / self.weights as f64).log10())
    }
}

/// The error of `decoded` as a share of the energy of `weights`.
fn nmse(weights: &[f32], decoded: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let error: f64 = weights.iter().zip(decoded).map(|(w, d)| square(f64::from(*w) - f64::from(*d))).sum();
    error / weights.iter().map(|w| square(f64::from(*w))).sum::<f64>()
}

#[cfg(test)]
pub(crate) fn decibels(weights: &[f32], decoded: &[f32]) -> f64 {
    -10.0 * nmse(weights, decoded).log10()
}

#[cfg(test)]
mod tests {
    use qins_quant::FloatDtype;

    use super::*;

    #[test]
    fn mean_is_of_nmse_and_weighted_by_size() {
        // Q8_0 returns the even rows exactly; of the others it loses what can be computed by hand.
        let matrix = |rows: usize, weights: [f32; 2]| Matrix {
            shape: [rows, 32],
            source: FloatDtype::F32,
            weights: weights.repeat(16 * rows),
        };
        let q8_0 = reference::ALL.iter().find(|format| format.name == "Q8_0").unwrap();
        let point = |matrices| Codec::Reference(q8_0).measure(&DataSet { name: String::new(), matrices }).unwrap();
        let exact = point(vec![matrix(3, [127.0; 2])]);
        assert_eq!((exact.bits, exact.decibels), (8.5, None));
        // A mean of energies instead would find the error smaller by the larger energy of the even rows.
        for (rows, share) in [(1, 0.5), (3, 0.25)] {
            let mixed = point(vec![matrix(rows, [127.0; 2]), matrix(1, [127.0, 0.25])]).decibels.unwrap();
            let expected = -10.0 * f64::log10(share * 0.0625 / (127.0 * 127.0 + 0.0625));
            assert!((mixed - expected).abs() < 1e-6, "{mixed}, not {expected}");
        }
    }
}
