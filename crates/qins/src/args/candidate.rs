//! `--candidate`.

use std::{path::PathBuf, str::FromStr};

/// A checkpoint to compare: `DIR`, or `DIR@BITS` for plain weights that hold the decoded values of a format of so many bits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OtherCheckpoint {
    pub(crate) dir: PathBuf,
    pub(crate) bits: Option<f64>,
}

impl FromStr for OtherCheckpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bits = |text: &str| text.parse().ok().filter(|bits: &f64| (0.1..=64.0).contains(bits));
        match text.rsplit_once('@').and_then(|(dir, text)| Some((dir, bits(text)?))) {
            Some((dir, bits)) => Ok(Self { dir: dir.into(), bits: Some(bits) }),
            None => Ok(Self { dir: text.into(), bits: None }),
        }
    }
}
