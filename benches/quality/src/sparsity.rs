//! SQNR after pruning at equal bits: zeros take fewer bits, which a finer step spends on the other weights.

use qins_quant::{EncodeOptions, Prune, Recipe};
use serde::Serialize;

use crate::{
    data::DataSet,
    measure::{point, rate},
};

const SHARES: [f32; 5] = [0.0, 0.1, 0.25, 0.5, 0.7];
const BITS: [f64; 4] = [2.0, 3.0, 4.0, 6.0];

/// SQNR in dB of `rate` against the unpruned weights, for each data set, share and number of bits.
#[derive(Debug, Serialize)]
pub(crate) struct Sparsity {
    pub(crate) bits: [f64; 4],
    pub(crate) shares: [f32; 5],
    pub(crate) decibels: Vec<Vec<Vec<f64>>>,
}

pub(crate) fn measure(sets: &[DataSet]) -> Result<Sparsity, String> {
    let decibels = |set: &DataSet, share, bits| {
        let recipe = rate(bits);
        let options = EncodeOptions { prune: Prune::new(share)?, ..recipe.options };
        Ok(point(&Recipe { options, ..recipe }, set)?.decibels.unwrap_or(f64::INFINITY))
    };
    let of_share = |set, share| BITS.map(|bits| decibels(set, share, bits)).into_iter().collect();
    let of_set = |set| SHARES.map(|share| of_share(set, share)).into_iter().collect();
    let decibels = sets.iter().map(of_set).collect::<Result<_, String>>()?;
    Ok(Sparsity { bits: BITS, shares: SHARES, decibels })
}
