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
                    (RopeScaling::LongRope(_), RopeScaling::LongRope(_)) | (RopeScaling::None, RopeScaling::None) => {
                        error(&"one longrope", &"another")
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
                let own = known.by_ref().copied().collect::<Vec<_>>().join(", ");
                Err(format!("expected in {place} of rope type `{rope_type}` one of {own}, found {key} {value}"))
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
