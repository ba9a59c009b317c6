//! How much work an encoder does.

use std::{fmt, str::FromStr};

/// How much work is done to find codes, by schemes that use [`Feedback`](super::Feedback). It makes no difference to others, and none
/// without it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// Each weight is rounded by itself; errors count by the mean square of their column's inputs.
    Fast,
    /// Error feedback, within groups too as their scales and curves are tried. Each linear makes up for errors of those encoded before it as
    /// well, if the calibration [follows](super::Calibration::follows) them.
    #[default]
    Good,
    /// After that, every group is searched again given all others, and every code is adjusted twice. `rate`, which has no groups, keeps its
    /// codes.
    Best,
}

impl Effort {
    /// All, least first.
    pub const ALL: [Self; 3] = [Self::Fast, Self::Good, Self::Best];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Good => "good",
            Self::Best => "best",
        }
    }
}

impl fmt::Display for Effort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Effort {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|effort| effort.name() == name);
        found.ok_or_else(|| format!("expected one of {}, found `{name}`", Self::ALL.map(Self::name).join(", ")))
    }
}
