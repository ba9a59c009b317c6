//! `--scheme`, or `none` for plain weights.

use std::str::FromStr;

use qins_quant::{ParseSchemeError, Scheme};

/// A scheme, or `none` for plain weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SchemeOrNone {
    /// Plain weights.
    None,
    /// Encoded weights.
    Scheme(Scheme),
}

impl FromStr for SchemeOrNone {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "none" => Ok(Self::None),
            name => name
                .parse()
                .map(Self::Scheme)
                .map_err(|e: ParseSchemeError| e.to_string().replace("one of ", "one of none, ")),
        }
    }
}

impl SchemeOrNone {
    pub(crate) fn scheme(self) -> Option<Scheme> {
        match self {
            Self::None => None,
            Self::Scheme(scheme) => Some(scheme),
        }
    }
}
