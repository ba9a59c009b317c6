//! The settings of a variant, and the name they give it.

use std::{fmt, path::Path};

use qins_quant::kv::KvScheme;
use schemars::JsonSchema;
use serde::Serialize;

/// Arithmetic that differs from the baseline's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Computation {
    /// On one thread.
    OneThread,
    /// In decode order, one token after the other, where the baseline scores all tokens in one forward pass.
    TokenByToken,
    /// The result of every operation rounded to bf16: the noise that users of that type accept.
    Bf16,
    /// The keys of each token rounded to 3 bits: what an evaluation of caches must find.
    CoarseKeys,
}

/// The settings of a variant: enough to make it again.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Settings {
    /// The scheme of its linears; `mixture` when one was chosen for each linear, `none` for plain weights, `checkpoint` for
    /// another checkpoint as it is.
    pub scheme: String,
    /// The directory of that checkpoint; null when the weights are the model's own.
    pub checkpoint: Option<String>,
    /// Bits per weight of the format whose decoded values the checkpoint holds as plain weights, where they were given.
    pub nominal_bits_per_weight: Option<f64>,
    /// How the KV cache is stored; null for plain f32.
    pub kv: Option<String>,
    /// Arithmetic that differs from the baseline's; null when it does not.
    pub computation: Option<Computation>,
    /// The linears that are encoded.
    pub targets: String,
    /// α of the curve; null when it was fitted to each row.
    pub alpha: Option<f32>,
    /// The goal that a mixture was chosen for.
    pub target: Option<String>,
    /// Overrides `pattern=scheme`; the last that matches a linear decides.
    pub overrides: Vec<String>,
    /// The calibration text; `standard` for the standard calibration.
    pub calibration: Option<String>,
    /// How much work was done to find the codes, where it was chosen.
    pub effort: Option<String>,
    /// Whether its size is that of an entropy-coded file; the schemes `lossless` and `rate` always are.
    pub entropy: bool,
    /// Bits per weight requested of the scheme `rate`.
    pub rate: Option<f64>,
    /// Share of each row's weights that was set to zero.
    pub prune: Option<f32>,
}

impl Settings {
    /// How the KV cache is stored; `None` for plain `f32`.
    pub fn kv(&self) -> Option<KvScheme> {
        self.kv.as_deref()?.parse().ok()
    }

    /// The scheme, when all encoded weights are stored in it unpruned and nothing else differs from the baseline.
    pub fn pure_scheme(&self) -> Option<&str> {
        let pure = self.overrides.is_empty() && self.prune.is_none() && self.checkpoint.is_none() && self.kv.is_none();
        pure.then_some(&self.scheme)
    }
}

/// The name of a variant: its scheme, and the settings that are not the default.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.computation, &self.checkpoint) {
            (Some(Computation::OneThread), _) => return f.write_str("one thread"),
            (Some(Computation::TokenByToken), _) => return f.write_str("token by token"),
            (Some(Computation::Bf16), _) => return f.write_str("bf16 arithmetic"),
            (Some(Computation::CoarseKeys), _) => return f.write_str("keys of 3 bits per token"),
            (None, Some(directory)) => {
                let name = Path::new(directory).file_name().map(|name| name.to_string_lossy());
                return f.write_str(&name.unwrap_or(directory.into()));
            }
            (None, None) if self.scheme == "none" && self.kv.is_some() => f.write_str("plain")?,
            (None, None) if self.scheme == "none" => return f.write_str("baseline repeated (A/A)"),
            (None, None) => f.write_str(&self.scheme)?,
        }
        if let Some(target) = &self.target {
            write!(f, " {target}")?;
        }
        if let Some(alpha) = self.alpha {
            write!(f, " α={alpha}")?;
        }
        if let Some(rate) = self.rate {
            write!(f, " {rate}")?;
        }
        if let Some(prune) = self.prune {
            write!(f, " pruned {prune}")?;
        }
        if let Some(kv) = &self.kv {
            write!(f, ", {kv} KV cache")?;
        }
        let flags = [(self.calibration.is_some(), " calibrated"), (!self.overrides.is_empty(), " with overrides")];
        flags.iter().filter(|(is_set, _)| *is_set).try_for_each(|(_, word)| f.write_str(word))?;
        self.effort.iter().try_for_each(|effort| write!(f, ", {effort} effort"))
    }
}
