//! A checkpoint checked as a model's: its bytes, its linears, and what its configuration expects.

use qins_quant::{Error, checkpoint::Checkpoint};
use serde::Serialize;

use crate::{ModelConfig, check};

/// What was checked, and the faults found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Verification {
    /// Whether there is no fault.
    pub ok: bool,
    /// The number of tensors that match their checksum.
    pub checksums: usize,
    /// One sentence for each fault.
    pub faults: Vec<String>,
    /// Encoded linears compared with the source.
    pub modules: Vec<VerifiedModule>,
}

/// An encoded linear compared with its source.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct VerifiedModule {
    /// Its full name.
    pub name: String,
    /// The name of its scheme.
    pub scheme: &'static str,
    /// SQNR of its weights; `None` where they are the same.
    pub sqnr_db: Option<f64>,
    /// Cosine similarity of its weights.
    pub cosine: Option<f64>,
    /// SQNR of its outputs on the calibration it was converted with.
    pub output_sqnr_db: Option<f64>,
    /// Weights whose bits differ.
    pub changed: u64,
    /// Its number of weights.
    pub weights: u64,
}

impl Verification {
    /// Of a checkpoint that cannot be opened.
    pub fn of_fault(fault: &Error) -> Self {
        Self { faults: vec![fault.to_string()], ..Self::default() }
    }
}

/// Checks a checkpoint as [`qins_quant::verify::verify`] does, and that it has the tensors of its configuration. An encoded linear with less
/// than `min_sqnr` dB is a fault; 0 dB itself, where nothing is left of the weights, too, unless less is allowed.
///
/// # Errors
/// When `source` is not plain. Defects of the checkpoint itself are faults, not errors.
pub fn verify(
    checkpoint: &Checkpoint,
    source: Option<&Checkpoint>,
    min_sqnr: f64,
    progress: &dyn Fn(u64),
) -> Result<Verification, Error> {
    let found = qins_quant::verify::verify(checkpoint, source, progress)?;
    let mut faults: Vec<String> = found.faults.iter().map(ToString::to_string).collect();
    for module in &found.modules {
        let Some(db) = module.fidelity.sqnr_db() else { continue };
        if db < min_sqnr {
            faults.push(format!("`{}`: expected {min_sqnr} dB or more, found {db:.2}", module.name));
        } else if db <= 0.0 && min_sqnr >= 0.0 {
            faults.push(format!("`{}`: expected more than 0 dB, found {db:.2}", module.name));
        }
    }
    let config = ModelConfig::of(checkpoint);
    let fault = config.and_then(|config| check(checkpoint, &config)).err().map(|fault| fault.to_string());
    // The same fault may have been found above.
    faults.extend(fault.filter(|fault| !faults.contains(fault)));
    let modules = found.modules.into_iter().map(|module| VerifiedModule {
        scheme: module.scheme.name(),
        sqnr_db: module.fidelity.sqnr_db(),
        cosine: module.fidelity.cosine(),
        output_sqnr_db: checkpoint.output_sqnr_db(&module.name),
        changed: module.fidelity.changed,
        weights: module.fidelity.weights,
        name: module.name,
    });
    Ok(Verification { ok: faults.is_empty(), checksums: found.checksums, modules: modules.collect(), faults })
}
