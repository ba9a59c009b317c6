//! What is read of the reports of `qins validate`.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A value with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Estimate {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// Reads a file of JSON; errors name it.
pub(crate) fn json<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
}

/// The names of the files in a directory that end so, without that end, sorted.
pub(crate) fn files(dir: &Path, end: &str) -> Result<Vec<String>, String> {
    let named = |e: std::io::Error| format!("{}: {e}", dir.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(named)? {
        let name = entry.map_err(named)?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(end).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}
