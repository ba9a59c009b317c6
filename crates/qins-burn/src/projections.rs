//! The projections of any module, and encoding them in place.

use std::collections::BTreeMap;

use qins_model::{LinearKind, LinearSpec, Policy, Targets, linears};
use qins_quant::{EncodeOptions, Scheme};

use crate::{
    Error, Projection,
    decoder::{Attention, Block, CausalLm, Decoder, Mlp},
    projections,
};

/// A module that holds projections.
pub trait Projections {
    /// Calls `visit` with the role, name and place of every projection.
    ///
    /// # Errors
    /// The first error of `visit`.
    fn visit_projections(&mut self, name: &str, visit: &mut Visit<'_>) -> Result<(), Error>;
}

/// A visitor of projections.
pub type Visit<'a> = dyn FnMut(LinearKind, &str, &mut Projection) -> Result<(), Error> + 'a;

projections!(Attention { q_proj: Q, k_proj: K, v_proj: V, o_proj: O });
projections!(Mlp { gate_proj: Gate, up_proj: Up, down_proj: Down });
projections!(Block { self_attn, mlp });

impl Projections for Decoder {
    fn visit_projections(&mut self, name: &str, visit: &mut Visit<'_>) -> Result<(), Error> {
        visit(LinearKind::Embedding, &format!("{name}.embed_tokens"), &mut self.embed_tokens)?;
        for (i, layer) in self.layers.iter_mut().enumerate() {
            layer.visit_projections(&format!("{name}.layers.{i}"), visit)?;
        }
        match &mut self.lm_head {
            Some(head) => visit(LinearKind::Head, "lm_head", head),
            None => Ok(()),
        }
    }
}

/// The result of a conversion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConvertReport {
    /// Names of the projections now encoded.
    pub encoded: Vec<String>,
    /// Names of those left plain.
    pub plain: Vec<String>,
}

/// Encodes the projections of `module` that `targets` selects, one at a time, so that at most one is in memory twice.
///
/// # Errors
/// When a weight cannot be encoded; projections encoded before it stay encoded.
pub fn convert_linear_to_qins(
    module: &mut impl Projections,
    targets: &Targets,
    scheme: Scheme,
    options: &EncodeOptions,
) -> Result<ConvertReport, Error> {
    let mut report = ConvertReport::default();
    module.visit_projections("model", &mut |kind, name, projection| {
        if !targets.contains(kind) {
            report.plain.push(name.to_owned());
            return Ok(());
        }
        let encoded = projection.clone().encode(scheme, options);
        *projection = encoded.map_err(|source| Error::Encode { module: name.to_owned(), source })?;
        report.encoded.push(name.to_owned());
        Ok(())
    })?;
    Ok(report)
}

/// Encodes the plain linears of a model in memory by `policy`; returns the original linears by name, for [`restore`].
///
/// # Errors
/// When a weight cannot be encoded; then the model is left unchanged.
pub fn apply(policy: &Policy, model: &mut dyn CausalLm) -> Result<BTreeMap<String, Projection>, Error> {
    let specs: BTreeMap<String, LinearSpec> =
        linears(model.config()).into_iter().map(|spec| (spec.module.clone(), spec)).collect();
    replace(model, &mut |name, projection| {
        let recipe = specs.get(name).and_then(|spec| policy.recipe(spec));
        let encoded = recipe.map(|recipe| projection.clone().encode_as(&recipe)).transpose();
        encoded.map_err(|source| Error::Encode { module: name.to_owned(), source })
    })
}

/// What takes a linear's place, if anything, by its name and itself.
pub type Replacement<'a> = dyn FnMut(&str, &Projection) -> Result<Option<Projection>, Error> + 'a;

/// Puts others in the place of some of a model's linears; returns the original ones by name, for [`restore`].
///
/// # Errors
/// The first error of `replacement`; then the model is left unchanged.
pub fn replace(
    model: &mut dyn CausalLm,
    replacement: &mut Replacement<'_>,
) -> Result<BTreeMap<String, Projection>, Error> {
    let mut before = BTreeMap::new();
    let done = model.visit_projections("model", &mut |_, name, projection| {
        if let Some(other) = replacement(name, projection)? {
            before.insert(name.to_owned(), std::mem::replace(projection, other));
        }
        Ok(())
    });
    match done {
        Ok(()) => Ok(before),
        Err(error) => {
            restore(model, before);
            Err(error)
        }
    }
}

/// Restores a model's linears to those before [`apply`] or [`replace`].
pub fn restore(model: &mut dyn CausalLm, mut before: BTreeMap<String, Projection>) {
    // Nothing that is done to a projection here can fail.
    let _ = model.visit_projections("model", &mut |_, name, projection| {
        if let Some(plain) = before.remove(name) {
            *projection = plain;
        }
        Ok(())
    });
}
