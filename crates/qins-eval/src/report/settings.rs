//! What was asked of a form.

use std::{fmt, path::Path};

use schemars::JsonSchema;
use serde::Serialize;

/// How a model computes, where that is not as the baseline does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Computation {
    /// With one thread.
    OneThread,
    /// Reading one token after the other, where the baseline reads all at once.
    TokenByToken,
    /// Rounding every result to bf16: the noise that users of that type accept.
    Bf16,
}

/// All that has to be said to make a form of a model again.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Settings {
    /// Its scheme; `mixture` where one was chosen for each linear, `none` for plain weights, `checkpoint` for a directory as
    /// it is.
    pub scheme: String,
    /// The directory it was read from, where that is not the baseline's.
    pub checkpoint: Option<String>,
    /// Bits per weight that it was said to stand for: those of another format, whose values it holds as plain weights.
    pub stands_for_bits: Option<f64>,
    /// How keys and values rest, where that is not plain.
    pub kv: Option<String>,
    /// What is not as in the baseline, beside weights and cache.
    pub computation: Option<Computation>,
    /// The linears encoded.
    pub targets: String,
    /// α, where it was fixed.
    pub alpha: Option<f32>,
    /// What a mixture was to reach.
    pub target: Option<String>,
    /// Exceptions, `pattern=scheme`; the last that matches decides.
    pub overrides: Vec<String>,
    /// The text it was calibrated on.
    pub calibration: Option<String>,
    /// Whether its bytes are counted as entropy-coded, beyond the schemes that always are.
    pub entropy: bool,
    /// Bits per weight asked of the scheme `rate`.
    pub rate: Option<f64>,
    /// The share of each row's weights that was set to zero.
    pub prune: Option<f32>,
}

impl Settings {
    /// The scheme that all encoded weights rest in as they were, if there is one and nothing else is encoded.
    pub fn pure_scheme(&self) -> Option<&str> {
        let pure = self.overrides.is_empty() && self.prune.is_none() && self.checkpoint.is_none() && self.kv.is_none();
        pure.then_some(&self.scheme)
    }
}

/// The name of a form: its scheme, and whatever else was asked for.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.computation, &self.checkpoint) {
            (Some(Computation::OneThread), _) => return f.write_str("one thread"),
            (Some(Computation::TokenByToken), _) => return f.write_str("token by token"),
            (Some(Computation::Bf16), _) => return f.write_str("bf16 arithmetic"),
            (None, Some(directory)) => {
                let name = Path::new(directory).file_name().map(|name| name.to_string_lossy());
                return f.write_str(&name.unwrap_or(directory.into()));
            }
            (None, None) if self.scheme == "none" && self.kv.is_some() => f.write_str("plain")?,
            (None, None) if self.scheme == "none" => return f.write_str("plain again"),
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
            write!(f, " cache {kv}")?;
        }
        let rest = [(self.calibration.is_some(), " calibrated"), (!self.overrides.is_empty(), " overridden")];
        rest.iter().filter(|(asked, _)| *asked).try_for_each(|(_, word)| f.write_str(word))
    }
}
