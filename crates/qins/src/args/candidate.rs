//! `--candidate`.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

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
        let (whole, parts) = (Self { dir: text.into(), bits: None }, text.rsplit_once('@'));
        match parts.and_then(|(dir, text)| Some((dir, bits(text)?))) {
            Some(_) if whole.dir.exists() => Ok(whole),
            // A name on the hub: the number may be a revision.
            Some((dir, _)) if !Path::new(dir).exists() && !dir.contains('@') && dir.split('/').count() == 2 => Err(
                format!("expected a directory before @BITS, or OWNER/NAME@REVISION@BITS of the hub, found `{text}`"),
            ),
            Some((dir, bits)) => Ok(Self { dir: dir.into(), bits: Some(bits) }),
            None => Ok(whole),
        }
    }
}
