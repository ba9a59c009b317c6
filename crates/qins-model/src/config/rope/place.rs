//! The settings in one object of `config.json`, by rope type.

use std::fmt::Display;

use serde::Deserialize;

use super::{super::fields::positive, Llama3, LongRope, RopeModel, Yarn};

pub(super) const ORIGINAL: &str = "original_max_position_embeddings";

/// The length before extension where a Phi-3 names none.
const PHI3_ORIGINAL: usize = 4096;

/// The fields of `rope_parameters` or `rope_scaling`.
#[derive(Deserialize, Default)]
pub(super) struct Inner {
    pub(super) rope_type: Option<String>,
    pub(super) r#type: Option<String>,
    pub(super) rope_theta: Option<f64>,
    pub(super) partial_rotary_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
    short_factor: Option<Vec<f32>>,
    long_factor: Option<Vec<f32>>,
    attention_factor: Option<f64>,
    pub(super) factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    mscale: Option<f64>,
    mscale_all_dim: Option<f64>,
    truncate: Option<bool>,
}

impl Inner {
    /// The type; early Phi-3 called LongRoPE `su` or `yarn`.
    pub(super) fn name(&self, place: &str, model: RopeModel<'_>) -> Result<String, String> {
        let named = |name: &Option<String>| {
            let is_alias = |n: &str| model.is_phi3 && ["su", "yarn"].contains(&n);
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
pub(super) struct Place<'a> {
    pub(super) inner: Inner,
    pub(super) place: &'a str,
    /// The length before extension that is named beside it.
    pub(super) outside: Option<usize>,
    pub(super) model: RopeModel<'a>,
}

impl Place<'_> {
    pub(super) fn llama3(&self) -> Result<Llama3, String> {
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
    pub(super) fn yarn(&self, theta: f64) -> Result<Yarn, String> {
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

    pub(super) fn longrope(&self, rotary_dim: usize) -> Result<LongRope, String> {
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
        let (inside, place, is_phi3) = (self.inner.original_max_position_embeddings, self.place, self.model.is_phi3);
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

    pub(super) fn required(&self, name: &str, value: Option<f64>) -> Result<f32, String> {
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
pub(super) fn agreed<T: PartialEq + Display>(
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
