//! The settings of rotary position embedding in `config.json`, which have been in several places over the years.
//!
//! They are in `rope_parameters`, or in `rope_scaling` with the rest beside it. Where two places name a setting they must agree, as
//! programs differ in which they follow; where only one does, or none, the result is that of Transformers 5.

use std::fmt::Display;

use qins_quant::json;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Scaling of the frequencies of rotary position embedding (RoPE).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// No scaling: θ^(−2i/d).
    None,
    /// LongRoPE: divided by factors that depend on the sequence length.
    LongRope(LongRope),
}

/// Two sets of frequency divisors, one up to the original length and one beyond.
#[derive(Clone, Debug, PartialEq)]
pub struct LongRope {
    /// Divisors while the sequence has at most `original_max_position_embeddings` tokens.
    pub short_factor: Vec<f32>,
    /// Divisors, for all positions, once it has more.
    pub long_factor: Vec<f32>,
    /// The context length before extension.
    pub original_max_position_embeddings: usize,
    /// Factor of cos and sin, for both sets.
    pub attention_factor: f32,
}

/// What a configuration says of its rotation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RopeSettings {
    pub(crate) theta: f64,
    pub(crate) rotary_dim: usize,
    pub(crate) scaling: RopeScaling,
}

/// The fields of `config.json` itself that have settings.
#[derive(Deserialize)]
pub(crate) struct RopeFields {
    original_max_position_embeddings: Option<usize>,
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    rope_scaling: Option<Map<String, Value>>,
    rope_parameters: Option<Map<String, Value>>,
}

/// The fields of `rope_parameters` or `rope_scaling`.
#[derive(Deserialize, Default)]
struct Inner {
    rope_type: Option<String>,
    r#type: Option<String>,
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
    short_factor: Option<Vec<f32>>,
    long_factor: Option<Vec<f32>>,
    attention_factor: Option<f32>,
    factor: Option<f64>,
}

/// The fields of every type of rotation.
const COMMON: [&str; 4] = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];

/// Those of LongRoPE besides.
const LONGROPE: [&str; 5] =
    ["short_factor", "long_factor", "original_max_position_embeddings", "attention_factor", "factor"];

/// The length before extension where a Phi-3 names none.
const PHI3_ORIGINAL: usize = 4096;

/// What of the model the settings depend on.
pub(crate) struct RopeModel {
    pub(crate) is_phi3: bool,
    pub(crate) head_dim: usize,
    pub(crate) max_position_embeddings: usize,
}

impl RopeFields {
    /// The settings that all places agree on.
    pub(crate) fn settings(&self, model: &RopeModel) -> Result<RopeSettings, String> {
        let inner = [("rope_scaling", &self.rope_scaling), ("rope_parameters", &self.rope_parameters)];
        let mut given =
            inner.into_iter().filter_map(|(name, map)| Some((name, map.as_ref().filter(|m| !m.is_empty())?)));
        match (given.next(), given.next()) {
            (None, _) => self.with("rope_parameters", &Map::new(), model),
            (Some((name, map)), None) => self.with(name, map, model),
            (Some((first, a)), Some((second, b))) => {
                let (a, b) = (self.with(first, a, model)?, self.with(second, b, model)?);
                let error = |expected: &dyn Display, found: &dyn Display| {
                    Err(format!("expected {first} and {second} to agree, found {expected} and {found}"))
                };
                match (&a.scaling, &b.scaling) {
                    _ if a.theta != b.theta => error(&format!("rope_theta {}", a.theta), &b.theta),
                    _ if a.rotary_dim != b.rotary_dim => {
                        error(&format!("{} rotated dimensions", a.rotary_dim), &b.rotary_dim)
                    }
                    _ if a == b => Ok(a),
                    (RopeScaling::None, RopeScaling::LongRope(_)) => error(&"rope type `default`", &"`longrope`"),
                    (RopeScaling::LongRope(_), RopeScaling::None) => error(&"rope type `longrope`", &"`default`"),
                    (RopeScaling::LongRope(a), RopeScaling::LongRope(b))
                        if a.attention_factor != b.attention_factor =>
                    {
                        error(&format!("attention factor {}", a.attention_factor), &b.attention_factor)
                    }
                    (RopeScaling::LongRope(_), RopeScaling::LongRope(_)) | (RopeScaling::None, RopeScaling::None) => {
                        error(&"one short_factor or long_factor", &"another")
                    }
                }
            }
        }
    }

    /// The settings where `map`, called `place`, is the only one of its kind.
    fn with(&self, place: &str, map: &Map<String, Value>, model: &RopeModel) -> Result<RopeSettings, String> {
        let inner: Inner = json::typed(&Value::Object(map.clone())).map_err(|e| format!("{place}.{e}"))?;
        let theta = agreed("rope_theta", place, inner.rope_theta, self.rope_theta)?.unwrap_or(10_000.0);
        // It is an f32 in the frequencies.
        if !(theta as f32 > 0.0 && (theta as f32).is_finite()) {
            return Err(format!("expected a positive rope_theta within f32, found {theta}"));
        }
        let partial = agreed("partial_rotary_factor", place, inner.partial_rotary_factor, self.partial_rotary_factor)?;
        let partial = partial.unwrap_or(1.0);
        if !model.is_phi3 && partial != 1.0 {
            return Err(format!("expected partial_rotary_factor 1 with model_type `llama`, found {partial}"));
        }
        let rotary_dim = (model.head_dim as f64 * partial) as usize;
        if rotary_dim == 0 || rotary_dim > model.head_dim || !rotary_dim.is_multiple_of(2) {
            let most = model.head_dim;
            return Err(format!(
                "expected an even number of rotated dimensions up to {most}, found {rotary_dim} (partial_rotary_factor {partial})"
            ));
        }
        // The first Phi-3 called it `su`.
        let named =
            |name: Option<String>| name.map(|n| if n == "su" && model.is_phi3 { "longrope".to_owned() } else { n });
        let (rope_type, old) = (named(inner.rope_type.clone()), named(inner.r#type.clone()));
        if let (Some(a), Some(b)) = (&rope_type, &old)
            && a != b
        {
            return Err(format!("expected {place}.rope_type and {place}.type to agree, found `{a}` and `{b}`"));
        }
        let rope_type = rope_type.or(old).unwrap_or("default".to_owned());
        let (scaling, own) = match &rope_type[..] {
            "default" => (RopeScaling::None, &[][..]),
            "longrope" => (RopeScaling::LongRope(self.longrope(place, inner, rotary_dim, model)?), &LONGROPE[..]),
            other => return Err(format!("expected rope type `default` or `longrope`, found `{other}` in {place}")),
        };
        // A setting that is not known might change the rotation.
        let mut known = COMMON.iter().chain(own);
        match map.iter().find(|(key, value)| !value.is_null() && known.clone().all(|known| known != key)) {
            None => Ok(RopeSettings { theta, rotary_dim, scaling }),
            Some((key, value)) => {
                let value = if value.is_number() { format!(" {value}") } else { String::new() };
                let own = known.by_ref().copied().collect::<Vec<_>>().join(", ");
                Err(format!("expected in {place} of rope type `{rope_type}` one of {own}, found {key}{value}"))
            }
        }
    }

    fn longrope(&self, place: &str, inner: Inner, rotary_dim: usize, model: &RopeModel) -> Result<LongRope, String> {
        const ORIGINAL: &str = "original_max_position_embeddings";
        let (inside, outside) = (inner.original_max_position_embeddings, self.original_max_position_embeddings);
        let original = match (agreed(ORIGINAL, place, inside, outside)?, outside) {
            // Transformers reads a Phi-3's only there.
            (Some(inside), None) if model.is_phi3 && inside != PHI3_ORIGINAL => {
                return Err(format!(
                    "expected {ORIGINAL} beside {place} (as phi3 has it; without it {PHI3_ORIGINAL}), found {inside} in {place} only"
                ));
            }
            (Some(original), _) => original,
            (None, _) if model.is_phi3 => PHI3_ORIGINAL,
            (None, _) => model.max_position_embeddings,
        };
        if original < 2 {
            return Err(format!("expected {ORIGINAL} of at least 2, found {original}"));
        }
        if !inner.factor.is_none_or(|f| f > 0.0 && f.is_finite()) {
            return Err(format!("expected a positive {place}.factor, found {:?}", inner.factor.unwrap_or_default()));
        }
        let factor = inner.factor.unwrap_or(model.max_position_embeddings as f64 / original as f64);
        let default = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original as f64).ln()).sqrt() };
        let attention_factor = inner.attention_factor.unwrap_or(default as f32);
        if !(attention_factor > 0.0 && attention_factor.is_finite()) {
            return Err(format!("expected a positive {place}.attention_factor, found {attention_factor:?}"));
        }
        Ok(LongRope {
            short_factor: divisors(place, "short_factor", inner.short_factor, rotary_dim / 2)?,
            long_factor: divisors(place, "long_factor", inner.long_factor, rotary_dim / 2)?,
            original_max_position_embeddings: original,
            attention_factor,
        })
    }
}

fn divisors(place: &str, name: &str, factors: Option<Vec<f32>>, expected: usize) -> Result<Vec<f32>, String> {
    let factors = factors.unwrap_or_default();
    if factors.len() != expected {
        return Err(format!("expected {expected} numbers in {place}.{name}, found {}", factors.len()));
    }
    match factors.iter().position(|f| !(*f > 0.0 && f.is_finite())) {
        None => Ok(factors),
        Some(i) => Err(format!("expected positive numbers in {place}.{name}, found {} at index {i}", factors[i])),
    }
}

/// A setting that may be in `place`, beside it, or in both, where it must be the same.
fn agreed<T: PartialEq + Display>(
    name: &str,
    place: &str,
    inside: Option<T>,
    outside: Option<T>,
) -> Result<Option<T>, String> {
    match (inside, outside) {
        (Some(inside), Some(outside)) if inside != outside => {
            Err(format!("expected one {name}, found {inside} in {place} and {outside} beside it"))
        }
        (inside, outside) => Ok(inside.or(outside)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{ModelConfig, Rope, RopeRegime};

    /// Cases that are rejected though Transformers computes something: two places that differ, of which it silently follows one, and
    /// settings that it ignores.
    const REJECTED: [(&str, &[&str]); 13] = [
        ("phi3: a base inside and outside", &["rope_theta", "500000 in rope_parameters", "1000000 beside it"]),
        ("phi3: a share inside and outside", &["partial_rotary_factor", "0.5 in rope_parameters", "0.75 beside it"]),
        ("phi3: default beside longrope", &["rope_scaling and rope_parameters", "rope_theta 10000 and 500000"]),
        ("phi3: longrope beside default", &["rope_scaling and rope_parameters", "`default` and `longrope`"]),
        ("phi3: a base only in the other", &["rope_scaling and rope_parameters", "rope_theta 10000 and 500000"]),
        (
            "phi3: type and rope_type differ",
            &["rope_scaling.rope_type and rope_scaling.type", "`default` and `longrope`"],
        ),
        (
            "phi3: an original length inside and outside",
            &["original_max_position_embeddings", "64 in rope_parameters", "32 beside it"],
        ),
        (
            "phi3: an original length inside only",
            &["original_max_position_embeddings beside rope_parameters", "without it 4096", "found 64"],
        ),
        ("phi3: an unknown key", &["rope_parameters", "found short_mscale 1.1"]),
        ("phi3: a factor without a type", &["rope_scaling", "`default`", "found factor 8.0"]),
        ("llama: a share outside", &["partial_rotary_factor 1", "llama", "found 0.5"]),
        ("llama: longrope called su", &["expected rope type `default` or `longrope`, found `su`"]),
        (
            "llama: an original length inside and outside",
            &["original_max_position_embeddings", "64 in rope_parameters", "32 beside it"],
        ),
    ];

    /// Accepted though Transformers 5 raises: Phi-3's first configurations, as its own code reads them.
    const ACCEPTED: &str = "phi3: longrope called su";

    #[test]
    fn settings_equal_those_of_transformers_or_name_both_places() {
        let cases = include_str!("../../../tests/fixtures/phi3/rope_settings.json");
        let cases: Vec<Value> = serde_json::from_str(cases).unwrap();
        let mut rejected = 0;
        for case in &cases {
            let name = case["name"].as_str().unwrap();
            let found = ModelConfig::parse(&case["config"], Path::new("config.json"));
            if let Some((_, messages)) = REJECTED.iter().find(|(rejected, _)| *rejected == name) {
                let error = found.expect_err(name).to_string();
                messages.iter().for_each(|message| assert!(error.contains(message), "{name}: {error}"));
                rejected += 1;
                continue;
            }
            let config = found.unwrap_or_else(|e| panic!("{name}: {e}"));
            let expected = &case["transformers"];
            if expected.is_null() {
                assert_eq!(name, ACCEPTED);
                continue;
            }
            let rope = Rope::new(&config);
            assert_eq!(config.rope_theta, expected["rope_theta"].as_f64().unwrap(), "{name}");
            assert_eq!(config.rotary_dim, expected["rotary_dim"].as_u64().unwrap() as usize, "{name}");
            assert_eq!(rope.scaling(), expected["attention_factor"].as_f64().unwrap() as f32, "{name}");
            let Some(original) = expected["original"].as_u64() else {
                assert_eq!(config.rope_scaling, RopeScaling::None, "{name}");
                continue;
            };
            let original = original as usize;
            assert_eq!(
                [original, original + 1].map(|len| rope.regime(len)),
                [RopeRegime::Short, RopeRegime::Long],
                "{name}"
            );
            for (regime, field) in [(RopeRegime::Short, "short"), (RopeRegime::Long, "long")] {
                let expected: Vec<f32> = serde_json::from_value(expected[field].clone()).unwrap();
                assert_eq!(expected.len(), rope.frequencies(regime).len(), "{name}");
                for (found, expected) in rope.frequencies(regime).iter().zip(expected) {
                    assert!((found - expected).abs() <= 1e-6 * expected, "{name}: {found} {expected}");
                }
            }
        }
        assert_eq!((rejected, cases.len()), (REJECTED.len(), 36));
    }

    #[test]
    fn frequencies_beyond_f32_are_rejected() {
        let cases = include_str!("../../../tests/fixtures/phi3/rope_settings.json");
        let cases: Vec<Value> = serde_json::from_str(cases).unwrap();
        let good = &cases.iter().find(|case| case["name"] == "phi3: a factor").unwrap()["config"];
        type Edit = fn(&mut Value);
        let cases: [(Edit, &[&str]); 8] = [
            (|c| c["rope_theta"] = 1e300.into(), &["rope_theta within f32", "found 1000"]),
            (|c| c["rope_theta"] = 1e-300.into(), &["rope_theta within f32", "found 0.000"]),
            (|c| c["rope_parameters"]["short_factor"][1] = 1e99.into(), &["short_factor", "found inf at index 1"]),
            (|c| c["rope_parameters"]["long_factor"][7] = 1e-44.into(), &["finite rotation frequencies", "found inf"]),
            (|c| c["rope_parameters"]["factor"] = (-1).into(), &["rope_parameters.factor", "found -1.0"]),
            (|c| c["rope_parameters"]["factor"] = "8".into(), &["rope_parameters.factor: expected a number", "\"8\""]),
            (|c| c["rope_parameters"]["attention_factor"] = 1e99.into(), &["attention_factor", "found inf"]),
            (|c| c["original_max_position_embeddings"] = 1.into(), &["original_max_position_embeddings", "found 1"]),
        ];
        for (edit, messages) in cases {
            let mut config = good.clone();
            edit(&mut config);
            let error = ModelConfig::parse(&config, Path::new("config.json")).unwrap_err().to_string();
            messages.iter().for_each(|message| assert!(error.contains(message), "{message}: {error}"));
        }
    }
}
