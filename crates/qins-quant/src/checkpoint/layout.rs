//! `quantization_config`: which modules rest encoded, and how.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{FloatDtype, Scheme};

/// The version this program writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;

/// The value of `quant_method`.
pub(super) const QUANT_METHOD: &str = "qins";

/// The entry of `config.json` that makes a checkpoint an encoded one, after the habit of compressed-tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantizationConfig {
    /// Always `qins`.
    pub quant_method: String,
    /// Counts incompatible changes; a reader refuses a newer one.
    pub format_version: u32,
    /// Modules by how they rest.
    pub config_groups: BTreeMap<String, Group>,
    /// Linear modules left plain.
    pub ignore: Vec<String>,
}

/// Modules that rest alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The modules' full names.
    pub targets: Vec<String>,
    /// Their scheme.
    pub scheme: Scheme,
    /// The type of their weights before encoding.
    pub source_dtype: FloatDtype,
    /// The α they were encoded with, where one was fixed for them all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub alpha: Option<f32>,
}

/// The tensor every encoded module has.
pub(super) fn packed(module: &str) -> String {
    format!("{module}.weight_packed")
}
