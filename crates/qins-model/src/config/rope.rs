//! Settings of rotary position embedding (RoPE): `rope_theta`, `rope_scaling` and `rope_parameters`.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::fields;

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

impl RopeSettings {
    /// Without scaling, of all dimensions.
    pub fn plain(theta: f64, rotary_dim: usize) -> Self {
        Self { theta, rotary_dim, scaling: RopeScaling::None }
    }
}

/// Where `config.json` has these settings: beside the others, or in an object of their own, under its older name or its newer.
#[derive(Clone, Default, Deserialize)]
pub(crate) struct RopeFields {
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
    rope_scaling: Option<Map<String, Value>>,
    rope_parameters: Option<Map<String, Value>>,
}

/// The object's fields.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Settings {
    rope_type: Option<String>,
    r#type: Option<String>,
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
    factor: Option<f64>,
    attention_factor: Option<f64>,
    short_factor: Option<Vec<f32>>,
    long_factor: Option<Vec<f32>>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    mscale: Option<f64>,
    mscale_all_dim: Option<f64>,
    truncate: Option<bool>,
}

/// What a model's family says where `config.json` is silent.
#[derive(Clone, Copy)]
pub(crate) struct RopeDefaults {
    pub(crate) theta: f64,
    pub(crate) head_dim: usize,
    /// The context length.
    pub(crate) longest: usize,
    /// The context length before extension.
    pub(crate) original: usize,
}

impl RopeFields {
    /// The settings of all blocks.
    ///
    /// # Errors
    /// When a setting is missing, out of range, given twice with different values, or of an unknown kind.
    pub(crate) fn settings(&self, defaults: RopeDefaults) -> Result<RopeSettings, String> {
        let object =
            one_of("rope_parameters", self.rope_parameters.clone(), "rope_scaling", self.rope_scaling.clone())?;
        self.resolve(object.unwrap_or_default(), defaults)
    }

    /// The settings of blocks of one type, where `rope_parameters` has an object for each type; `None` where it has not.
    ///
    /// # Errors
    /// As [`settings`](Self::settings).
    pub(crate) fn of_type(&self, layer_type: &str, defaults: RopeDefaults) -> Result<Option<RopeSettings>, String> {
        let Some(object) = self.rope_parameters.as_ref().and_then(|types| types.get(layer_type)) else {
            return Ok(None);
        };
        if self.rope_scaling.is_some() {
            return Err(format!("expected rope_parameters.{layer_type} or rope_scaling, found both"));
        }
        let object = object
            .as_object()
            .cloned()
            .ok_or_else(|| format!("expected an object in rope_parameters.{layer_type}, found {object}"))?;
        // Those beside it are of the other types.
        Self::default().resolve(object, defaults).map(Some)
    }

    fn resolve(&self, object: Map<String, Value>, defaults: RopeDefaults) -> Result<RopeSettings, String> {
        let given: Settings = fields::fields(&Value::Object(object))?;
        let theta = one_of("rope_theta", self.rope_theta, "that of the rope settings", given.rope_theta)?;
        let theta = theta.unwrap_or(defaults.theta);
        if !(theta > 0.0 && theta.is_finite()) {
            return Err(format!("expected a positive rope_theta, found {theta}"));
        }
        let partial = one_of(
            "partial_rotary_factor",
            self.partial_rotary_factor,
            "that of the rope settings",
            given.partial_rotary_factor,
        )?;
        let head_dim = defaults.head_dim;
        let rotary_dim = (head_dim as f64 * partial.unwrap_or(1.0)) as usize;
        if rotary_dim == 0 || rotary_dim > head_dim || !rotary_dim.is_multiple_of(2) {
            return Err(format!("expected an even number of rotated dimensions up to {head_dim}, found {rotary_dim}"));
        }
        let original = one_of(
            "original_max_position_embeddings",
            self.original_max_position_embeddings,
            "that of the rope settings",
            given.original_max_position_embeddings,
        )?;
        let original = original.unwrap_or(defaults.original);
        let scaling = given.scaling(theta, rotary_dim, [original, defaults.longest])?;
        Ok(RopeSettings { theta, rotary_dim, scaling })
    }
}

impl Settings {
    /// As Transformers 5 reads them, with the context lengths before and after extension.
    fn scaling(self, theta: f64, rotary_dim: usize, [original, longest]: [usize; 2]) -> Result<RopeScaling, String> {
        let name = one_of("rope_type", self.rope_type.clone(), "type", self.r#type.clone())?;
        let name = name.as_deref().unwrap_or("default");
        let used: &[&str] = match name {
            "default" => &[],
            "linear" => &["factor"],
            "llama3" => &["factor", "low_freq_factor", "high_freq_factor"],
            "yarn" => &["factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"],
            // The first Phi-3 called it `su`.
            "longrope" | "su" => &["factor", "attention_factor", "short_factor", "long_factor"],
            "dynamic" => {
                return Err(
                    "expected a rope type of fixed frequencies, found `dynamic`, whose frequencies change with the \
                            length of a text, so that what was read before would have to be read again for each token"
                        .to_owned(),
                );
            }
            other => {
                let known = "`default`, `linear`, `llama3`, `yarn` or `longrope`";
                return Err(format!("expected rope type {known}, found `{other}`"));
            }
        };
        self.expect_only(name, used)?;
        let original = || match original {
            2.. => Ok(original),
            _ => Err(format!("expected original_max_position_embeddings of at least 2, found {original}")),
        };
        Ok(match name {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear(required("factor", self.factor)? as f32),
            "llama3" => {
                let low = required("low_freq_factor", self.low_freq_factor)? as f32;
                let high = required("high_freq_factor", self.high_freq_factor)? as f32;
                if high <= low {
                    return Err(format!("expected a high_freq_factor above the low_freq_factor {low}, found {high}"));
                }
                RopeScaling::Llama3(Llama3 {
                    factor: required("factor", self.factor)? as f32,
                    low_freq_factor: low,
                    high_freq_factor: high,
                    original_max_position_embeddings: original()?,
                })
            }
            "yarn" => {
                if theta == 1.0 {
                    return Err("expected another rope_theta than 1 for `yarn`".to_owned());
                }
                RopeScaling::Yarn(Yarn {
                    factor: required("factor", self.factor)? as f32,
                    beta_fast: positive("beta_fast", self.beta_fast)?.unwrap_or(32.0),
                    beta_slow: positive("beta_slow", self.beta_slow)?.unwrap_or(1.0),
                    truncate: self.truncate.unwrap_or(true),
                    original_max_position_embeddings: original()?,
                    attention_factor: self.yarn_attention_factor()? as f32,
                })
            }
            _ => {
                let original = original()?;
                let ratio = longest as f64 / original as f64;
                let factor = positive("factor", self.factor)?.unwrap_or(ratio);
                let default = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original as f64).ln()).sqrt() };
                RopeScaling::LongRope(LongRope {
                    attention_factor: positive("attention_factor", self.attention_factor)?.unwrap_or(default) as f32,
                    short_factor: divisors("short_factor", self.short_factor, rotary_dim / 2)?,
                    long_factor: divisors("long_factor", self.long_factor, rotary_dim / 2)?,
                    original_max_position_embeddings: original,
                })
            }
        })
    }

    /// Equation 22 of the paper, with DeepSeek's two weights.
    fn yarn_attention_factor(&self) -> Result<f64, String> {
        let factor = required("factor", self.factor)?;
        let scale = |weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 };
        let default = match (positive("mscale", self.mscale)?, positive("mscale_all_dim", self.mscale_all_dim)?) {
            (Some(one), Some(all)) => scale(one) / scale(all),
            _ => scale(1.0),
        };
        Ok(positive("attention_factor", self.attention_factor)?.unwrap_or(default))
    }

    /// # Errors
    /// When a setting is given that the rope type does not use: it belongs to another type.
    fn expect_only(&self, name: &str, used: &[&str]) -> Result<(), String> {
        let given = [
            ("factor", self.factor.is_some()),
            ("attention_factor", self.attention_factor.is_some()),
            ("short_factor", self.short_factor.is_some()),
            ("long_factor", self.long_factor.is_some()),
            ("low_freq_factor", self.low_freq_factor.is_some()),
            ("high_freq_factor", self.high_freq_factor.is_some()),
            ("beta_fast", self.beta_fast.is_some()),
            ("beta_slow", self.beta_slow.is_some()),
            ("mscale", self.mscale.is_some()),
            ("mscale_all_dim", self.mscale_all_dim.is_some()),
            ("truncate", self.truncate.is_some()),
        ];
        match given.into_iter().find(|(field, is_given)| *is_given && !used.contains(field)) {
            None => Ok(()),
            Some((field, _)) => Err(format!("expected no {field} for rope type `{name}`, found one")),
        }
    }
}

/// A setting that may be in two places.
///
/// # Errors
/// When it is in both, with different values.
fn one_of<T: PartialEq + std::fmt::Debug>(
    name: &str,
    first: Option<T>,
    other: &str,
    second: Option<T>,
) -> Result<Option<T>, String> {
    match (first, second) {
        (Some(first), Some(second)) if first != second => {
            Err(format!("expected {name} and {other} to be equal, found {first:?} and {second:?}"))
        }
        (first, second) => Ok(first.or(second)),
    }
}

fn required(name: &str, value: Option<f64>) -> Result<f64, String> {
    positive(name, value)?.ok_or_else(|| format!("expected a {name} in the rope settings, found none"))
}

fn positive(name: &str, value: Option<f64>) -> Result<Option<f64>, String> {
    match value {
        Some(value) if !(value > 0.0 && value.is_finite()) => Err(format!("expected a positive {name}, found {value}")),
        value => Ok(value),
    }
}

fn divisors(name: &str, values: Option<Vec<f32>>, n: usize) -> Result<Vec<f32>, String> {
    let values = values.unwrap_or_default();
    if values.len() == n && values.iter().all(|f| *f > 0.0 && f.is_finite()) {
        Ok(values)
    } else {
        Err(format!("expected {n} positive numbers in {name}, found {}", values.len()))
    }
}
