//! Bits per weight and signal-to-quantisation-noise ratio of every form on every data set.

use qins_quant::{EncodeError, EncodeOptions, EncodedTensor, Scheme};
use serde::Serialize;

use crate::{
    data::{DataSet, Matrix},
    reference::{self, Format},
};

/// One form on one data set.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Point {
    /// Bits per weight, all parameters included.
    pub(crate) bits: f64,
    /// −10·log₁₀ of the matrices' NMSE, averaged with their sizes as weights; nothing where all is exact.
    pub(crate) decibels: Option<f64>,
}

/// One form on every data set.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// Whether it is one of the library's schemes.
    pub(crate) ours: bool,
    pub(crate) points: Vec<Point>,
}

/// Something that turns a matrix into bytes and back.
enum Form<'a> {
    Ours(Scheme),
    Reference(&'a Format),
}

impl Form<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Ours(scheme) => scheme.name(),
            Self::Reference(format) => format.name,
        }
    }

    /// Bytes at rest, and the weights they decode to.
    fn round_trip(&self, Matrix { shape, source, weights }: &Matrix) -> Result<(usize, Vec<f32>), EncodeError> {
        let mut decoded = vec![0.0; weights.len()];
        let bytes = match self {
            Self::Ours(scheme) => {
                let encoded = EncodedTensor::encode(weights, *shape, *source, *scheme, &EncodeOptions::default())?;
                encoded.decode_into(&mut decoded);
                encoded.bytes()
            }
            Self::Reference(format) => {
                let bytes = format.encode(weights, shape[1]);
                format.decode(&bytes, shape[1], &mut decoded);
                bytes.len()
            }
        };
        Ok((bytes, decoded))
    }

    fn measure(&self, data: &DataSet) -> Result<Point, EncodeError> {
        let (mut bytes, mut weights, mut error) = (0, 0, 0.0);
        for matrix in &data.matrices {
            let (size, decoded) = self.round_trip(matrix)?;
            bytes += size;
            weights += decoded.len();
            error += decoded.len() as f64 * nmse(&matrix.weights, &decoded);
        }
        let decibels = (error > 0.0).then(|| -10.0 * (error / weights as f64).log10());
        Ok(Point { bits: (8 * bytes) as f64 / weights as f64, decibels })
    }
}

/// Measures every scheme that quantises, and every reference; the cheapest come first.
pub(crate) fn measure(sets: &[DataSet]) -> Result<Vec<Row>, String> {
    // `f32` saves nothing, so there is nothing to weigh its noise against.
    let ours = Scheme::ALL.into_iter().filter(|scheme| *scheme != Scheme::F32).map(Form::Ours);
    let mut rows = ours
        .chain(reference::ALL.iter().map(Form::Reference))
        .map(|form| {
            let points = sets
                .iter()
                .map(|set| form.measure(set).map_err(|error| format!("{} on {}: {error}", form.name(), set.name)));
            Ok(Row {
                name: form.name(),
                ours: matches!(form, Form::Ours(_)),
                points: points.collect::<Result<_, _>>()?,
            })
        })
        .collect::<Result<Vec<_>, String>>()?;
    let first = |row: &Row| row.points.first().map_or((0.0, 0.0), |p| (p.bits, p.decibels.unwrap_or(f64::INFINITY)));
    rows.sort_by(|a, b| first(a).partial_cmp(&first(b)).unwrap_or(std::cmp::Ordering::Equal));
    Ok(rows)
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
    fn the_mean_is_of_nmse_and_weighted_by_size() {
        // Q8_0 returns the even rows exactly; of the others it loses what can be computed by hand.
        let matrix = |rows: usize, weights: [f32; 2]| Matrix {
            shape: [rows, 32],
            source: FloatDtype::F32,
            weights: weights.repeat(16 * rows),
        };
        let q8_0 = reference::ALL.iter().find(|format| format.name == "Q8_0").unwrap();
        let point = |matrices| Form::Reference(q8_0).measure(&DataSet { name: "", matrices }).unwrap();
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
