//! Which linears are encoded, by their roles.

use std::{collections::BTreeSet, fmt, str::FromStr};

use crate::LinearKind;

/// Which linears are encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// v, o, gate, up and down, without q and k: the source report's intended set.
    Safe,
    /// Every linear of the blocks: the set that the report encoded in fact.
    All,
    /// Every linear, embedding and head included.
    Full,
    /// Linears of these roles.
    Kinds(BTreeSet<LinearKind>),
}

impl Targets {
    /// Whether linears of this role are encoded.
    pub fn contains(&self, kind: LinearKind) -> bool {
        use LinearKind::{Embedding, Head, K, Q};
        match self {
            Self::Safe => !matches!(kind, Q | K | Embedding | Head),
            Self::All => !matches!(kind, Embedding | Head),
            Self::Full => true,
            Self::Kinds(kinds) => kinds.contains(&kind),
        }
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Safe => f.write_str("safe"),
            Self::All => f.write_str("all"),
            Self::Full => f.write_str("full"),
            Self::Kinds(kinds) => f.write_str(&kinds.iter().map(|k| k.name()).collect::<Vec<_>>().join(",")),
        }
    }
}

impl FromStr for Targets {
    type Err = String;

    /// `safe`, `all`, `full`, or a list like `v_proj,down` (`_proj` may be left out).
    fn from_str(text: &str) -> Result<Self, String> {
        let kind = |name: &str| {
            LinearKind::ALL.into_iter().find(|k| k.name() == name || k.short_name() == name).ok_or_else(|| {
                let known = LinearKind::ALL.map(LinearKind::name).join(", ");
                format!("unknown target `{name}`: expected safe, all, full, or a list of {known}")
            })
        };
        match text {
            "safe" => Ok(Self::Safe),
            "all" => Ok(Self::All),
            "full" => Ok(Self::Full),
            list => list.split(',').map(|name| kind(name.trim())).collect::<Result<_, _>>().map(Self::Kinds),
        }
    }
}
