//! What was asked of a form.

use std::fmt;

use serde::Serialize;

/// All that has to be said to make a form of a model again.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Settings {
    /// Its scheme; `mixture` where one was chosen for each linear, `none` for the baseline against itself.
    pub scheme: String,
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
    /// The scheme that all encoded weights rest in as they were, if there is one.
    pub fn pure_scheme(&self) -> Option<&str> {
        (self.overrides.is_empty() && self.prune.is_none()).then_some(&self.scheme)
    }
}

/// The name of a form: its scheme, and whatever else was asked for.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.scheme)?;
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
        let rest = [(self.calibration.is_some(), " calibrated"), (!self.overrides.is_empty(), " overridden")];
        rest.iter().filter(|(asked, _)| *asked).try_for_each(|(_, word)| f.write_str(word))
    }
}
