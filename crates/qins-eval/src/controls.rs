//! Variants that show what a comparison is worth: some must agree exactly, one must fail.

use qins_model::{Policy, Targets};
use qins_quant::{Alpha, EncodeOptions, Recipe, Scheme, kv::KvScheme};

use crate::{
    Error,
    comparison::{Variant, Weights},
    report::{Computation, Judge, Role, Settings},
};

/// The plain model, computed in other ways: once more, in another order, and with the noise that users accept.
pub fn plain_controls() -> Vec<Variant> {
    let variant = |role, computation, generates| {
        let settings = Settings { scheme: "none".to_owned(), computation, ..Settings::default() };
        Variant { generates, ..Variant::new(role, settings, Weights::Plain, Judge::Bits) }
    };
    vec![
        variant(Role::Judged, None, true),
        variant(Role::Judged, Some(Computation::OneThread), false),
        variant(Role::Judged, Some(Computation::TokenByToken), false),
        variant(Role::Information, Some(Computation::Bf16), true),
    ]
}

/// The plain model with its keys and values stored in these schemes.
pub fn kv_variants(schemes: &[KvScheme]) -> Vec<Variant> {
    let variant = |&kv: &KvScheme| {
        let settings = Settings { scheme: "none".to_owned(), kv: Some(kv.to_string()), ..Settings::default() };
        Variant { kv, ..Variant::new(Role::Judged, settings, Weights::Plain, Judge::Bits) }
    };
    schemes.iter().map(variant).collect()
}

/// Eight bits at the report's α, to look at, and at one so small that the codes collapse, which must fail.
///
/// # Errors
/// None today: both α are constants.
pub fn encoded_controls(targets: &Targets, judge: Judge) -> Result<Vec<Variant>, Error> {
    let collapsed = Alpha::new(0.01).map_err(|e| Error::Settings(e.to_string()))?;
    let variant = |(role, alpha): (Role, Alpha)| {
        let settings = Settings {
            scheme: Scheme::Q8.to_string(),
            targets: targets.to_string(),
            alpha: Some(alpha.get()),
            ..Settings::default()
        };
        let options = EncodeOptions { alpha: Some(alpha), ..EncodeOptions::default() };
        let policy = Policy::new(targets.clone(), Recipe { options, ..Scheme::Q8.into() });
        Variant::new(role, settings, Weights::Encoded(policy), judge)
    };
    Ok([(Role::Information, Alpha::ONE), (Role::Control, collapsed)].map(variant).into())
}
