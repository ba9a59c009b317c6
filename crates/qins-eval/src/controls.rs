//! Controls of the comparison itself: variants that must agree with the baseline, and one that must fail its thresholds.

use qins_model::{Policy, Targets};
use qins_quant::{Alpha, EncodeOptions, Recipe, Scheme, kv::KvScheme};

use crate::{
    Error,
    comparison::{Variant, Weights},
    report::{Computation, Role, Settings, Thresholds, kv_threshold},
};

/// The plain model, computed in other ways. In order:
///
/// 1. the baseline repeated (A/A), which must agree exactly;
/// 2. with one thread, and 3. in decode order, token by token: either must agree to a mean KL divergence of 1e-5 nats;
/// 4. in bf16 arithmetic, for information: the noise that users of that type accept.
pub fn plain_controls() -> Vec<Variant> {
    let variant = |role, computation, generates| {
        let settings = Settings { scheme: "none".to_owned(), computation, ..Settings::default() };
        Variant { generates, ..Variant::new(role, settings, Weights::Plain, Thresholds::ByBits) }
    };
    vec![
        variant(Role::Judged, None, true),
        variant(Role::Judged, Some(Computation::OneThread), false),
        variant(Role::Judged, Some(Computation::TokenByToken), false),
        variant(Role::Information, Some(Computation::Bf16), true),
    ]
}

/// The plain model with the keys of each token rounded to 3 bits: the negative control where caches are judged, which must miss
/// the threshold of each of `schemes`.
pub fn kv_control(schemes: &[KvScheme]) -> Variant {
    let computation = Some(Computation::CoarseKeys);
    let settings = Settings { scheme: "none".to_owned(), computation, ..Settings::default() };
    let loosest = schemes.iter().map(|scheme| kv_threshold(*scheme)).fold(0.0, f64::max);
    Variant { generates: false, ..Variant::new(Role::Control, settings, Weights::Plain, Thresholds::MaxKl(loosest)) }
}

/// The plain model with its KV cache stored in each of `schemes`, judged by thresholds for caches.
pub fn kv_variants(schemes: &[KvScheme]) -> Vec<Variant> {
    let variant = |&kv: &KvScheme| {
        let settings = Settings { scheme: "none".to_owned(), kv: Some(kv.to_string()), ..Settings::default() };
        Variant { kv, ..Variant::new(Role::Judged, settings, Weights::Plain, Thresholds::ByBits) }
    };
    schemes.iter().map(variant).collect()
}

/// The linears of `targets` in scheme `q8` with a fixed curve: at α = 1, the source report's setting, for information; and as a
/// negative control at α = 0.01, where the codes collapse, which must miss a threshold.
///
/// # Errors
/// [`Error::Settings`] when an α is rejected, which does not happen: both are constants.
pub fn encoded_controls(targets: &Targets, thresholds: Thresholds) -> Result<Vec<Variant>, Error> {
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
        Variant::new(role, settings, Weights::Encoded(policy), thresholds)
    };
    Ok([(Role::Information, Alpha::ONE), (Role::Control, collapsed)].map(variant).into())
}
