//! `quantization_config`: which modules are encoded, and how; and the names of the tensors that store them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Dtype, TensorSpec};
use crate::{FloatDtype, PartSpec, Scheme, entropy::block_count, json};

/// The format version that is written, and the only one that is read.
pub const FORMAT_VERSION: u32 = 3;

/// The value of `quant_method`, and the key of a shard's metadata that holds the checksums of its tensors.
pub(super) const QUANT_METHOD: &str = "qins";

/// The entry of `config.json` that marks a checkpoint as encoded, as in compressed-tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QuantizationConfig {
    /// Always `qins`.
    pub quant_method: String,
    /// Counts incompatible changes; readers reject any other.
    pub format_version: u32,
    /// Modules, grouped by how they are stored.
    pub config_groups: BTreeMap<String, Group>,
    /// Linear modules left plain.
    pub ignore: Vec<String>,
    /// Fused matrices of the source, each with its linears in the order of their rows; here each linear is stored by
    /// itself.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub fused: BTreeMap<String, Vec<String>>,
    /// Tensors of the source that are not stored, because each had the bytes of another: copy → original.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub copies: BTreeMap<String, String>,
    /// Of modules that were encoded with error feedback, the signal-to-noise ratio of their outputs on the calibration, in dB: that of
    /// their weights is lower than without feedback, though the outputs are nearer.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub output_sqnr_db: BTreeMap<String, f64>,
    /// What the schemes were chosen for by what the model writes after prompts, such as `kl=0.05`: to judge them, others are needed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub goal: Option<String>,
}

impl QuantizationConfig {
    /// Reads an entry of this method and version.
    pub(super) fn parse(value: &Value) -> Result<Self, String> {
        let method = value.get("quant_method").and_then(Value::as_str).unwrap_or("none");
        if method != QUANT_METHOD {
            return Err(format!("expected quant_method `{QUANT_METHOD}`, found `{method}`"));
        }
        // The version comes first, since it decides the form of all other fields.
        let version = &value["format_version"];
        if *version != FORMAT_VERSION {
            let newer = if version.as_u64() > Some(FORMAT_VERSION.into()) { "; a newer qins may read it" } else { "" };
            return Err(format!("expected format_version {FORMAT_VERSION}, found {version}{newer}"));
        }
        json::typed(value)
    }
}

/// Modules that are stored alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Group {
    /// The modules' full names.
    pub targets: Vec<String>,
    /// Their scheme.
    pub scheme: Scheme,
    /// The type of their weights before encoding.
    pub source_dtype: FloatDtype,
    /// The α they were encoded with, if it was fixed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub alpha: Option<f32>,
    /// How their parts are entropy-coded, if they are.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub coding: Option<Coding>,
}

/// An entropy coder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Coding {
    /// Blocks of rows in the Pcodec format.
    Pco,
}

/// The name of the main tensor, which every encoded module has.
pub(super) fn packed(module: &str) -> String {
    format!("{module}.weight_packed")
}

/// The tensor of an encoded module's `[rows, cols]`.
pub(super) fn shape(module: &str) -> TensorSpec {
    TensorSpec { name: format!("{module}.weight_shape"), dtype: Dtype::I64, shape: vec![2] }
}

impl PartSpec {
    pub(crate) fn tensor_name(&self, module: &str) -> String {
        format!("{module}.weight_{}", self.name)
    }

    /// The tensor of this part without entropy coding, of a matrix of `rows` rows.
    pub(crate) fn tensor(&self, module: &str, rows: usize) -> TensorSpec {
        TensorSpec { name: self.tensor_name(module), dtype: self.element.safetensors(), shape: self.shape(rows) }
    }

    /// The tensor of the lengths of its entropy-coded blocks.
    pub(crate) fn blocks(&self, module: &str, rows: usize) -> TensorSpec {
        let blocks = block_count([rows, self.width()]);
        TensorSpec { name: format!("{}_blocks", self.tensor_name(module)), dtype: Dtype::U32, shape: vec![blocks] }
    }
}
