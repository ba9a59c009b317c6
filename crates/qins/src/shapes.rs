//! A model's shapes without its weights.

use std::{fs, path::Path};

use qins_quant::json;
use serde_json::Value;

/// The config.json of Phi-3.5-mini-instruct.
const PHI: &str = include_str!("../assets/phi-3.5-mini.json");

/// The content of a `config.json`, or that of `phi-3.5-mini`, which is built in.
pub(crate) fn shapes(name: &Path) -> Result<Value, String> {
    let read = || {
        if name == Path::new("phi-3.5-mini") {
            return json::object(PHI.as_bytes());
        }
        let bytes = fs::read(name).map_err(|e| format!("expected `phi-3.5-mini` or a config.json: {e}"))?;
        json::object(&bytes)
    };
    read().map_err(|e| format!("{}: {e}", name.display()))
}
