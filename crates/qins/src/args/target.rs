//! `--target`.

use std::{fmt, str::FromStr};

use qins_model::OutputGoal;
use qins_quant::mixture::Goal;

/// The goal of a mixture of schemes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    /// A goal for the weights: bits per weight, or SQNR.
    Weights(Goal),
    /// A goal for the model's output: KL divergence, or top-1 agreement.
    Output(OutputGoal),
}

impl Target {
    /// Whether schemes are chosen for it by what the model writes after prompts, given whether there is a calibration.
    pub(crate) fn is_measured(self, is_calibrated: bool) -> bool {
        match self {
            Self::Output(_) => true,
            Self::Weights(Goal::Bits(_)) => is_calibrated,
            Self::Weights(Goal::Sqnr(_)) => false,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Weights(goal) => goal.fmt(f),
            Self::Output(OutputGoal::Kl(kl)) => write!(f, "kl={kl}"),
            // Rounded to the number that was given: 0.999 × 100 is not exactly 99.9.
            Self::Output(OutputGoal::Match(share)) => write!(f, "match={}%", (1e8 * share).round() / 1e6),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    /// `bits=4.5`, `sqnr=40`, `kl=1e-3`, `match=99.9%` or `match=0.999`.
    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("expected bits=NUMBER, sqnr=NUMBER, kl=NUMBER or match=PERCENT%, found `{text}`");
        let (name, value) = text.split_once('=').ok_or_else(error)?;
        let number = |text: &str| text.parse().ok().filter(|v: &f64| v.is_finite() && *v > 0.0).ok_or_else(error);
        match name {
            "kl" => Ok(Self::Output(OutputGoal::Kl(number(value)?))),
            "match" => {
                let share = match value.strip_suffix('%') {
                    Some(percent) => number(percent)? / 100.0,
                    None => number(value)?,
                };
                if share < 1.0 { Ok(Self::Output(OutputGoal::Match(share))) } else { Err(error()) }
            }
            _ => text.parse().map(Self::Weights).map_err(|_| error()),
        }
    }
}
