//! The settings of rotary position embedding in `config.json`, which have been in several places over the years.
//!
//! They are in `rope_parameters`, or in `rope_scaling` with the rest beside it. Where two places name a setting they must agree, as
//! programs differ in which they follow; where only one does, or none, the result is that of Transformers 5.

use std::fmt::Display;

use qins_quant::json;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::fields::positive;

/// The frequencies of a rotary position embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeSettings {
    /// Base θ of the frequencies.
    pub theta: f64,
    /// Number of rotated dimensions of each head, an even number.
    pub rotary_dim: usize,
    /// Scaling of the frequencies.
    pub scaling: RopeScaling,
}

/// Scaling of the frequencies θ^(−2i/d).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// None.
    None,
    /// Divided by a factor.
    Linear(f32),
    /// Llama 3.1: low frequencies are divided by a factor.
    Llama3(Llama3),
    /// YaRN (Peng et al., 2023): frequencies below a band are divided by a factor.
    Yarn(Yarn),
    /// LongRoPE: divided by factors that depend on the sequence length.
    LongRope(LongRope),
}

/// Llama 3.1's scaling.
#[derive(Clone, Debug, PartialEq)]
pub struct Llama3 {
    /// The divisor of low frequencies.
    pub factor: f32,
    /// Frequencies that turn less often than this over the original context are low.
    pub low_freq_factor: f32,
    /// Frequencies that turn more often than this are unchanged.
    pub high_freq_factor: f32,
    /// The context length before extension.
    pub original_max_position_embeddings: usize,
}

/// YaRN's scaling.
#[derive(Clone, Debug, PartialEq)]
pub struct Yarn {
    /// The divisor of low frequencies.
    pub factor: f32,
    /// Frequencies that turn more often than this over the original context are unchanged.
    pub beta_fast: f64,
    /// Frequencies that turn less often than this are low.
    pub beta_slow: f64,
    /// Whether the band's ends are whole dimensions.
    pub truncate: bool,
    /// The context length before extension.
    pub original_max_position_embeddings: usize,
    /// Factor of cos and sin.
    pub attention_factor: f32,
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

/// The fields of `config.json` itself that have settings.
#[derive(Clone, Default, Deserialize)]
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
    attention_factor: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    mscale: Option<f64>,
    mscale_all_dim: Option<f64>,
    truncate: Option<bool>,
}

const ORIGINAL: &str = "original_max_position_embeddings";

/// The fields of every type of rotation.
const COMMON: [&str; 4] = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];

/// The types, and the fields of each besides.
const TYPES: [(&str, &[&str]); 5] = [
    ("default", &[]),
    ("linear", &["factor"]),
    ("llama3", &["factor", "low_freq_factor", "high_freq_factor", ORIGINAL]),
    (
        "yarn",
        &["factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate", ORIGINAL],
    ),
    ("longrope", &["short_factor", "long_factor", ORIGINAL, "attention_factor", "factor"]),
];

/// The length before extension where a Phi-3 names none.
const PHI3_ORIGINAL: usize = 4096;

/// What of the model the settings depend on.
#[derive(Clone, Copy)]
pub(crate) struct RopeModel<'a> {
    pub(crate) model_type: &'a str,
    /// The base where none is named.
    pub(crate) theta: f64,
    pub(crate) head_dim: usize,
    pub(crate) max_position_embeddings: usize,
}

impl RopeModel<'_> {
    fn is_phi3(self) -> bool {
        self.model_type == "phi3"
    }
}

impl RopeFields {
    /// The settings that all places agree on.
    ///
    /// # Errors
    /// When a setting is missing, out of range, unknown, or given twice with different values.
    pub(crate) fn settings(&self, model: RopeModel<'_>) -> Result<RopeSettings, String> {
        let inner = [("rope_scaling", &self.rope_scaling), ("rope_parameters", &self.rope_parameters)];
        let mut given =
            inner.into_iter().filter_map(|(name, map)| Some((name, map.as_ref().filter(|m| !m.is_empty())?)));
        match (given.next(), given.next()) {
            (None, _) => self.with("rope_parameters", &Map::new(), model),
            (Some((name, map)), None) => self.with(name, map, model),
            (Some((first, a)), Some((second, b))) => {
                let (a, b) = (self.with(first, a, model)?, self.with(second, b, model)?);
                match a.difference(&b) {
                    None => Ok(a),
                    Some((a, b)) => Err(format!("expected {first} and {second} to agree, found {a} and {b}")),
                }
            }
        }
    }

    /// The settings of the blocks of one type, where `rope_parameters` has an object for each type; `None` where it has not.
    ///
    /// # Errors
    /// As [`settings`](Self::settings).
    pub(crate) fn of_type(&self, layer_type: &str, model: RopeModel<'_>) -> Result<Option<RopeSettings>, String> {
        let Some(settings) = self.rope_parameters.as_ref().and_then(|types| types.get(layer_type)) else {
            return Ok(None);
        };
        let place = format!("rope_parameters.{layer_type}");
        if self.rope_scaling.as_ref().is_some_and(|map| !map.is_empty()) {
            return Err(format!("expected {place} or rope_scaling, found both"));
        }
        let map = settings.as_object().ok_or_else(|| format!("expected an object in {place}, found {settings}"))?;
        // What is beside it may be of the other type.
        Self::default().with(&place, map, model).map(Some)
    }

    /// The settings where `map`, called `place`, is the only one of its kind.
    fn with(&self, place: &str, map: &Map<String, Value>, model: RopeModel<'_>) -> Result<RopeSettings, String> {
        let inner: Inner = json::typed(&Value::Object(map.clone())).map_err(|e| format!("{place}.{e}"))?;
        let theta = agreed("rope_theta", place, inner.rope_theta, self.rope_theta)?.unwrap_or(model.theta);
        // It is an f32 in the frequencies.
        if !(theta as f32 > 0.0 && (theta as f32).is_finite()) {
            return Err(format!("expected a positive rope_theta within f32, found {theta}"));
        }
        let partial = agreed("partial_rotary_factor", place, inner.partial_rotary_factor, self.partial_rotary_factor)?;
        let partial = partial.unwrap_or(1.0);
        if !model.is_phi3() && partial != 1.0 {
            let name = model.model_type;
            return Err(format!("expected partial_rotary_factor 1 with model_type `{name}`, found {partial}"));
        }
        let rotary_dim = (model.head_dim as f64 * partial) as usize;
        if rotary_dim == 0 || rotary_dim > model.head_dim || !rotary_dim.is_multiple_of(2) {
            let most = model.head_dim;
            return Err(format!(
                "expected an even number of rotated dimensions up to {most}, found {rotary_dim} (partial_rotary_factor {partial})"
            ));
        }
        let name = inner.name(place, model)?;
        let Some((_, own)) = TYPES.iter().find(|(known, _)| *known == name) else {
            let known = TYPES.map(|(name, _)| format!("`{name}`")).join(", ");
            let why = if name == "dynamic" {
                ": frequencies that change as a text grows, so that it would be read again"
            } else {
                ""
            };
            return Err(format!("expected a rope type of {known}, found `{name}` in {place}{why}"));
        };
        // A setting that is not known might change the rotation.
        let known = || COMMON.iter().chain(*own);
        if let Some((key, value)) =
            map.iter().find(|(key, value)| !value.is_null() && known().all(|known| known != key))
        {
            let value = if value.is_number() { format!(" {value}") } else { String::new() };
            let own = known().copied().collect::<Vec<_>>().join(", ");
            return Err(format!("expected in {place} of rope type `{name}` one of {own}, found {key}{value}"));
        }
        let place = Place { inner, place, outside: self.original_max_position_embeddings, model };
        let scaling = match &name[..] {
            "linear" => RopeScaling::Linear(place.required("factor", place.inner.factor)?),
            "llama3" => RopeScaling::Llama3(place.llama3()?),
            "yarn" => RopeScaling::Yarn(place.yarn(theta)?),
            "longrope" => RopeScaling::LongRope(place.longrope(rotary_dim)?),
            _ => RopeScaling::None,
        };
        Ok(RopeSettings { theta, rotary_dim, scaling })
    }
}

impl RopeSettings {
    /// A setting in which two differ, and its two values.
    fn difference(&self, other: &Self) -> Option<(String, String)> {
        let pair = |name: &str, a: &dyn Display, b: &dyn Display| Some((format!("{name}{a}"), b.to_string()));
        match (self.scaling.name(), other.scaling.name()) {
            _ if self == other => None,
            _ if self.theta != other.theta => pair("rope_theta ", &self.theta, &other.theta),
            _ if self.rotary_dim != other.rotary_dim => {
                pair("rotated dimensions ", &self.rotary_dim, &other.rotary_dim)
            }
            (a, b) if a != b => pair("rope type ", &format!("`{a}`"), &format!("`{b}`")),
            _ => match (self.scaling.attention_factor(), other.scaling.attention_factor()) {
                (a, b) if a != b => pair("attention factor ", &a, &b),
                _ => pair("", &"one set of factors", &"another"),
            },
        }
    }
}

impl RopeScaling {
    fn name(&self) -> &'static str {
        match self {
            Self::None => "default",
            Self::Linear(_) => "linear",
            Self::Llama3(_) => "llama3",
            Self::Yarn(_) => "yarn",
            Self::LongRope(_) => "longrope",
        }
    }

    /// The factor of cos and sin.
    pub(crate) fn attention_factor(&self) -> f32 {
        match self {
            Self::None | Self::Linear(_) | Self::Llama3(_) => 1.0,
            Self::Yarn(yarn) => yarn.attention_factor,
            Self::LongRope(long_rope) => long_rope.attention_factor,
        }
    }
}

impl Inner {
    /// The type; early Phi-3 called LongRoPE `su` or `yarn`.
    fn name(&self, place: &str, model: RopeModel<'_>) -> Result<String, String> {
        let named = |name: &Option<String>| {
            let is_alias = |n: &str| model.is_phi3() && ["su", "yarn"].contains(&n);
            name.clone().map(|n| if is_alias(&n) { "longrope".into() } else { n })
        };
        match (named(&self.rope_type), named(&self.r#type)) {
            (Some(a), Some(b)) if a != b => {
                Err(format!("expected {place}.rope_type and {place}.type to agree, found `{a}` and `{b}`"))
            }
            (a, b) => Ok(a.or(b).unwrap_or("default".to_owned())),
        }
    }
}

/// An object of settings, and where it is.
struct Place<'a> {
    inner: Inner,
    place: &'a str,
    /// The length before extension that is named beside it.
    outside: Option<usize>,
    model: RopeModel<'a>,
}

impl Place<'_> {
    fn llama3(&self) -> Result<Llama3, String> {
        let low = self.required("low_freq_factor", self.inner.low_freq_factor)?;
        let high = self.required("high_freq_factor", self.inner.high_freq_factor)?;
        if high <= low {
            return Err(format!(
                "expected {}.high_freq_factor above the low_freq_factor {low}, found {high}",
                self.place
            ));
        }
        Ok(Llama3 {
            factor: self.required("factor", self.inner.factor)?,
            low_freq_factor: low,
            high_freq_factor: high,
            original_max_position_embeddings: self.original()?,
        })
    }

    /// The attention factor is that of equation 22 of the paper, with DeepSeek's two weights.
    fn yarn(&self, theta: f64) -> Result<Yarn, String> {
        if theta == 1.0 {
            return Err(format!("expected another rope_theta than 1 with `yarn` in {}", self.place));
        }
        let inner = &self.inner;
        let factor = self.required("factor", inner.factor)?;
        let scale =
            |weight: f32| if factor <= 1.0 { 1.0 } else { 0.1 * f64::from(weight) * f64::from(factor).ln() + 1.0 };
        let default =
            match (self.positive("mscale", inner.mscale)?, self.positive("mscale_all_dim", inner.mscale_all_dim)?) {
                (Some(one), Some(all)) => scale(one) / scale(all),
                _ => scale(1.0),
            };
        Ok(Yarn {
            factor,
            beta_fast: self.positive("beta_fast", inner.beta_fast)?.map_or(32.0, f64::from),
            beta_slow: self.positive("beta_slow", inner.beta_slow)?.map_or(1.0, f64::from),
            truncate: inner.truncate.unwrap_or(true),
            original_max_position_embeddings: self.original()?,
            attention_factor: self.positive("attention_factor", inner.attention_factor)?.unwrap_or(default as f32),
        })
    }

    fn longrope(&self, rotary_dim: usize) -> Result<LongRope, String> {
        let (inner, original) = (&self.inner, self.original()?);
        let ratio = self.model.max_position_embeddings as f64 / original as f64;
        self.positive("factor", inner.factor)?;
        let factor = inner.factor.unwrap_or(ratio);
        let default = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original as f64).ln()).sqrt() };
        Ok(LongRope {
            short_factor: divisors(self.place, "short_factor", inner.short_factor.clone(), rotary_dim / 2)?,
            long_factor: divisors(self.place, "long_factor", inner.long_factor.clone(), rotary_dim / 2)?,
            original_max_position_embeddings: original,
            attention_factor: self.positive("attention_factor", inner.attention_factor)?.unwrap_or(default as f32),
        })
    }

    /// The context length before extension.
    fn original(&self) -> Result<usize, String> {
        let (inside, place, is_phi3) = (self.inner.original_max_position_embeddings, self.place, self.model.is_phi3());
        let original = match (agreed(ORIGINAL, place, inside, self.outside)?, self.outside) {
            // Transformers reads a Phi-3's only there.
            (Some(inside), None) if is_phi3 && inside != PHI3_ORIGINAL => {
                return Err(format!(
                    "expected {ORIGINAL} beside {place} (as phi3 has it; without it {PHI3_ORIGINAL}), found {inside} in {place} only"
                ));
            }
            (Some(original), _) => original,
            (None, _) if is_phi3 => PHI3_ORIGINAL,
            (None, _) => self.model.max_position_embeddings,
        };
        if original < 2 {
            return Err(format!("expected {ORIGINAL} of at least 2, found {original}"));
        }
        Ok(original)
    }

    fn required(&self, name: &str, value: Option<f64>) -> Result<f32, String> {
        self.positive(name, value)?.ok_or_else(|| format!("expected a {name} in {}, found none", self.place))
    }

    fn positive(&self, name: &str, value: Option<f64>) -> Result<Option<f32>, String> {
        value.map(|value| positive(&format!("{}.{name}", self.place), value)).transpose()
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
        ("llama: longrope called su", &["expected a rope type of `default`", "found `su`"]),
        (
            "llama: an original length inside and outside",
            &["original_max_position_embeddings", "64 in rope_parameters", "32 beside it"],
        ),
    ];

    /// Accepted though Transformers 5 raises: Phi-3's first configurations, as its own code reads them.
    const ACCEPTED: &str = "phi3: longrope called su";

    #[test]
    fn settings_equal_those_of_transformers_or_name_both_places() {
        let cases = include_str!("../../../../tests/fixtures/phi3/rope_settings.json");
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
            let rope = Rope::new(&config.rope);
            assert_eq!(config.rope.theta, expected["rope_theta"].as_f64().unwrap(), "{name}");
            assert_eq!(config.rope.rotary_dim, expected["rotary_dim"].as_u64().unwrap() as usize, "{name}");
            assert_eq!(rope.scaling(), expected["attention_factor"].as_f64().unwrap() as f32, "{name}");
            let Some(original) = expected["original"].as_u64() else {
                assert_eq!(config.rope.scaling, RopeScaling::None, "{name}");
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
        let cases = include_str!("../../../../tests/fixtures/phi3/rope_settings.json");
        let cases: Vec<Value> = serde_json::from_str(cases).unwrap();
        let good = &cases.iter().find(|case| case["name"] == "phi3: a factor").unwrap()["config"];
        type Edit = fn(&mut Value);
        let cases: [(Edit, &[&str]); 8] = [
            (|c| c["rope_theta"] = 1e300.into(), &["rope_theta within f32", "found 1000"]),
            (|c| c["rope_theta"] = 1e-300.into(), &["rope_theta within f32", "found 0.000"]),
            (|c| c["rope_parameters"]["short_factor"][1] = 1e99.into(), &["short_factor", "found inf at index 1"]),
            (|c| c["rope_parameters"]["long_factor"][7] = 1e-44.into(), &["finite rotation frequencies", "found inf"]),
            (|c| c["rope_parameters"]["factor"] = (-1).into(), &["rope_parameters.factor", "found -1"]),
            (|c| c["rope_parameters"]["factor"] = "8".into(), &["rope_parameters.factor: expected a number", "\"8\""]),
            (|c| c["rope_parameters"]["attention_factor"] = 1e99.into(), &["attention_factor", "found 1000"]),
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
