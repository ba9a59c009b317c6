//! The settings of rotary position embedding in `config.json`, which have been in several places over the years.
//!
//! They are in `rope_parameters`, or in `rope_scaling` with the rest beside it. Where two places name a setting they must agree, as
//! programs differ in which they follow; where only one does, or none, the result is that of Transformers 5.

mod place;

use std::fmt::Display;

use qins_quant::json;
use serde::Deserialize;
use serde_json::{Map, Value};

use place::{Inner, ORIGINAL, Place, agreed};

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

/// The fields of every type of rotation, and two that are notes of those who trained the model.
const COMMON: [&str; 6] =
    ["rope_type", "type", "rope_theta", "partial_rotary_factor", "finetuned", "max_position_embeddings"];

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

/// The types of blocks that may have settings of their own.
const LAYER_TYPES: [&str; 2] = ["full_attention", "sliding_attention"];

/// What of the model the settings depend on.
#[derive(Clone, Copy)]
pub(crate) struct RopeModel<'a> {
    pub(crate) model_type: &'a str,
    /// The base where none is named.
    pub(crate) theta: f64,
    pub(crate) head_dim: usize,
    pub(crate) max_position_embeddings: usize,
    /// Whether settings are read as Transformers reads those of a Phi-3.
    pub(crate) is_phi3: bool,
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
        let types = self.rope_parameters.as_ref();
        let Some((types, settings)) = types.and_then(|types| Some((types, types.get(layer_type)?))) else {
            return Ok(None);
        };
        let place = format!("rope_parameters.{layer_type}");
        if let Some(other) = types.keys().find(|key| !LAYER_TYPES.contains(&key.as_str())) {
            return Err(format!(
                "expected in rope_parameters, which has {layer_type}, only {LAYER_TYPES:?}, found {other}"
            ));
        }
        if self.rope_scaling.as_ref().is_some_and(|map| !map.is_empty()) {
            return Err(format!("expected {place} or rope_scaling, found both"));
        }
        let map = settings.as_object().ok_or_else(|| format!("expected an object in {place}, found {settings}"))?;
        // What is beside it is of the blocks that attend to everything.
        let rope_theta = self.rope_theta.filter(|_| layer_type == "full_attention");
        Self { rope_theta, ..Self::default() }.with(&place, map, model).map(Some)
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
        if !model.is_phi3 && partial != 1.0 {
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

#[cfg(test)]
mod tests;
