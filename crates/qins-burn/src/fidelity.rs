//! How near the weights that a model computes with are to those of a plain checkpoint.

use qins_quant::{Fidelity, Scheme, checkpoint::Checkpoint};

use qins_model::{LinearSpec, linears};

use crate::{Error, decoder::CausalLm, device::read};

/// A linear as it rests in a model.
#[derive(Clone, Debug)]
pub struct LayerFidelity {
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
pub fn fidelity(model: &mut dyn CausalLm, source: &Checkpoint) -> Result<Vec<LayerFidelity>, Error> {
    let mut specs = linears(model.config());
    let mut found = Vec::new();
    model.visit_projections("model", &mut |_, name, projection| {
        let Some(at) = specs.iter().position(|spec| spec.module == name) else { return Ok(()) };
        let spec = specs.swap_remove(at);
        let (_, plain) = spec.plain(source)?;
        let rows: Vec<u32> = (0..spec.shape[0] as u32).collect();
        let decoded = read(projection.rows(&rows))?;
        let fidelity = Fidelity::of(&plain.widen(), &decoded);
        found.push(LayerFidelity { scheme: projection.scheme(), spec, fidelity });
        Ok(())
    })?;
    Ok(found)
}
