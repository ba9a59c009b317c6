//! What the linears of a model cost, from the divergences of blocks and roles.

use std::collections::BTreeMap;

use qins_model::LinearSpec;
use qins_quant::{
    Scheme,
    mixture::{Choice, Matrix, Mixture, PROBE, SCHEMES},
};

use crate::sensitivity::block;

/// All linears in one scheme, for each that all are fitted in.
pub(super) fn uniform(matrices: &[Matrix]) -> impl Iterator<Item = Mixture> {
    let total: f64 = matrices.iter().map(|matrix| matrix.weights as f64).sum();
    SCHEMES.into_iter().filter_map(move |scheme| {
        let (mut bits, mut nmse) = (0.0, 0.0);
        for matrix in matrices {
            let share = matrix.weights as f64 / total;
            let choice = matrix.choices.iter().find(|choice| choice.scheme == scheme)?;
            (bits, nmse) = (bits + share * choice.bits, nmse + share * choice.nmse);
        }
        Some(Mixture { schemes: vec![scheme; matrices.len()], bits, nmse })
    })
}

/// The parts that a linear is in: its block, if it is in one, and its role.
pub(super) fn names(spec: &LinearSpec) -> impl Iterator<Item = String> {
    block(spec).map(|block| format!("block {block}")).into_iter().chain([spec.kind.name().to_owned()])
}

/// The choice was made by costs; what is reported is the error of the fits.
pub(super) fn reported(matrices: &[Matrix], mixture: Mixture) -> Mixture {
    Mixture { nmse: mean_nmse(matrices, &mixture.schemes), ..mixture }
}

/// Distributes the divergence measured by block and by role over the linears, by iterative proportional fitting. Linears in no
/// block (embedding, head) have a role of their own.
pub(super) fn distribute(specs: &[LinearSpec], matrices: &[Matrix], found: &BTreeMap<String, f64>) -> Vec<f64> {
    let cost = |name: &str| found.get(name).copied().unwrap_or(0.0);
    let block_name = |spec: &LinearSpec| block(spec).map(|block| format!("block {block}"));
    let mut costs = errors(matrices);
    for _ in 0..100 {
        let mut sums: BTreeMap<String, f64> = BTreeMap::new();
        for (spec, cost) in specs.iter().zip(&costs) {
            *sums.entry(spec.kind.name().to_owned()).or_default() += cost;
        }
        for (spec, share) in specs.iter().zip(&mut costs) {
            let name = spec.kind.name();
            *share *= cost(name) / sums[name].max(f64::MIN_POSITIVE);
        }
        let mut sums: BTreeMap<String, f64> = BTreeMap::new();
        for (spec, cost) in specs.iter().zip(&costs) {
            if let Some(name) = block_name(spec) {
                *sums.entry(name).or_default() += cost;
            }
        }
        for (spec, share) in specs.iter().zip(&mut costs) {
            if let Some(name) = block_name(spec) {
                *share *= cost(&name) / sums[&name].max(f64::MIN_POSITIVE);
            }
        }
    }
    costs
}

/// The squared error of each linear, in units of its mean square: what it costs if nothing is measured.
pub(super) fn errors(matrices: &[Matrix]) -> Vec<f64> {
    matrices.iter().map(|matrix| probed(matrix).nmse * matrix.weights as f64).collect()
}

/// Geometric means of errors and measured costs, with the total of the costs: of `trust` 0 the errors, of 1 the costs.
pub(super) fn between(errors: &[f64], costs: &[f64], trust: f64) -> Vec<f64> {
    let means: Vec<f64> =
        errors.iter().zip(costs).map(|(error, cost)| error.powf(1.0 - trust) * cost.powf(trust)).collect();
    let [total, of_costs] = [&means[..], costs].map(|all| all.iter().sum::<f64>());
    means.iter().map(|mean| mean * of_costs / total.max(f64::MIN_POSITIVE)).collect()
}

fn probed(matrix: &Matrix) -> Choice {
    let probe = matrix.choices.iter().find(|choice| choice.scheme == PROBE);
    *probe.unwrap_or(&Choice { scheme: PROBE, bits: 0.0, nmse: 0.0 })
}

/// The matrices with the error of each choice replaced by its cost.
pub(super) fn with_costs(matrices: &[Matrix], costs: &[f64]) -> Vec<Matrix> {
    let total: f64 = matrices.iter().map(|m| m.weights as f64).sum();
    let costed = |(matrix, cost): (&Matrix, &f64)| {
        let share = matrix.weights as f64 / total;
        let of_probe = probed(matrix).nmse.max(f64::MIN_POSITIVE);
        let choice = |choice: &Choice| Choice { nmse: cost * choice.nmse / of_probe / share, ..*choice };
        Matrix { weights: matrix.weights, choices: matrix.choices.iter().map(choice).collect() }
    };
    matrices.iter().zip(costs).map(costed).collect()
}

/// The mean NMSE of the matrices in these schemes, weighted by size.
fn mean_nmse(matrices: &[Matrix], schemes: &[Scheme]) -> f64 {
    let total: f64 = matrices.iter().map(|m| m.weights as f64).sum();
    let error = |(matrix, scheme): (&Matrix, &Scheme)| {
        let choice = matrix.choices.iter().find(|choice| choice.scheme == *scheme);
        choice.map_or(0.0, |choice| choice.nmse * matrix.weights as f64)
    };
    matrices.iter().zip(schemes).map(error).sum::<f64>() / total
}
