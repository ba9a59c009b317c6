//! How near the weights that a model computes with are to those of a plain checkpoint.

use qins_quant::{Fidelity, Scheme, checkpoint::Checkpoint};

use crate::{Error, LinearSpec, Projections, device::read, linears, load::plain_rows, phi3::Phi3};

/// A linear as it rests in a model.
#[derive(Clone, Debug)]
pub struct Resting {
    /// Which one.
    pub spec: LinearSpec,
    /// How it rests in memory; `None` where that is as plain weights, whatever it was in a file.
    pub scheme: Option<Scheme>,
    /// Its weights beside the checkpoint's.
    pub fidelity: Fidelity,
}

/// Decodes every linear of `model`, one at a time, and compares it with its rows in `source`.
///
/// # Errors
/// When `source` has no such rows, or the device fails.
pub fn fidelity(model: &mut Phi3, source: &Checkpoint) -> Result<Vec<Resting>, Error> {
    let mut specs = linears(model.config());
    let mut found = Vec::new();
    model.visit_projections("model", &mut |_, name, projection| {
        let Some(at) = specs.iter().position(|spec| spec.module == name) else { return Ok(()) };
        let spec = specs.swap_remove(at);
        let (_, plain) = plain_rows(source, &spec)?;
        let rows: Vec<u32> = (0..spec.shape[0] as u32).collect();
        let decoded = read(projection.rows(&rows))?;
        let fidelity = Fidelity::of(&plain.widen(), &decoded);
        found.push(Resting { scheme: projection.scheme(), spec, fidelity });
        Ok(())
    })?;
    Ok(found)
}
