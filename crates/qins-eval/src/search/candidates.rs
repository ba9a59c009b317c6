//! The linears to choose schemes for.

use std::collections::BTreeMap;

use qins_model::LinearSpec;
use qins_quant::{
    Scheme,
    mixture::{Fits, Matrix, Mixture},
};

use crate::{
    Error,
    comparison::Comparison,
    model::EvalModel,
    sensitivity::{Divergences, compare},
};

/// The linears of a model that are encoded, and their fits.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    /// The linears to choose a scheme for.
    pub specs: &'a [LinearSpec],
    /// Linears that are encoded too, in one scheme each.
    pub fixed: &'a [LinearSpec],
    /// The fits of all these, in this order.
    pub fits: &'a Fits,
}

impl Candidates<'_> {
    /// # Errors
    /// When there is not a fit for each linear.
    pub(super) fn expect_fits(&self) -> Result<(), Error> {
        let (expected, found) = (self.specs.len() + self.fixed.len(), self.fits.matrices().len());
        let fault = || Error::Settings(format!("expected the fits of {expected} linears, found {found}"));
        if found == expected { Ok(()) } else { Err(fault()) }
    }

    /// Size, bits and errors of the linears to choose for.
    pub(super) fn matrices(&self) -> &[Matrix] {
        &self.fits.matrices()[..self.specs.len()]
    }

    /// The scheme of each fixed linear, by its place among all.
    pub(super) fn fixed(&self) -> impl Iterator<Item = (usize, Scheme)> {
        let all = self.fits.matrices().iter().enumerate().skip(self.specs.len());
        all.filter_map(|(i, matrix)| Some((i, matrix.choices.first()?.scheme)))
    }

    /// Puts the fits of these linears, by their places among all, in the place of the plain ones.
    pub(super) fn put(
        &self,
        chosen: impl Iterator<Item = (usize, Scheme)>,
        model: &mut dyn EvalModel,
    ) -> Result<(), Error> {
        let name = |i: usize| &self.specs.iter().chain(self.fixed).nth(i).expect("a linear for each fit").module;
        let chosen: BTreeMap<&str, (usize, Scheme)> =
            chosen.map(|(i, scheme)| (name(i).as_str(), (i, scheme))).collect();
        let encoded = |module: &str| match chosen.get(module) {
            None => Ok(None),
            Some((i, scheme)) => match self.fits.get(*i, *scheme)? {
                Some(encoded) => Ok(Some(encoded)),
                None => Err(format!("`{module}`: expected its fit in {scheme}, found none").into()),
            },
        };
        model.replace(&mut { encoded }).map_err(Error::Model)
    }

    /// What a mixture changes, with the fixed linears.
    pub(super) fn measure(
        &self,
        mixture: &Mixture,
        comparison: &Comparison<'_>,
        model: &mut dyn EvalModel,
    ) -> Result<Divergences, Error> {
        let chosen = mixture.schemes.iter().copied().enumerate();
        self.put(chosen.chain(self.fixed()), model)?;
        compare(comparison, model, &format!("{:.2} bits", mixture.bits))
    }
}
